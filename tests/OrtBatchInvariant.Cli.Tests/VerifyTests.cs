using System.Text.Json;
using Google.Protobuf;
using OrtBatchInvariant.Cli.Tests.Support;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using OrtBatchInvariant.Verification.Audit.Reports;
using OrtBatchInvariant.Verification.Audit.Serving;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Cli.Tests;

[Collection(nameof(Support.Models))]
public sealed class VerifyTests(Support.Models models, ITestOutputHelper output) : IDisposable
{
    private static readonly string[] s_fewRows = ["--quick", "--max-rows", "3", "--tokens", "4"];

    private readonly TemporaryFolder _temporary = new();

    [Fact]
    public async Task StockVariesAndIsNamedAndOursIsInvariant()
    {
        string json = File("report.json");
        ToolResult result = await Run(["verify", models.Int4, "--provider", "cpu,batch-invariant", .. s_fewRows, "--json", json, "--junit", File("report.xml"), "--html", File("report.html")]);

        Assert.Equal((ExitCode.Varies, ""), (result.ExitCode, result.Error));
        Assert.All(["VARIES", "INVARIANT", "MatMul_Q4", "GroupQueryAttention"], part => Assert.Contains(part, result.Output, StringComparison.Ordinal));
        VerificationReport report = VerificationReport.Parse(await System.IO.File.ReadAllTextAsync(json));
        Assert.Equal([false, true], report.Audits.Select(audit => audit.IsInvariant));
        Assert.Equal("MatMulNBits", report.Audits[0].Blame!.First!.Op);
        Assert.All(report.Audits[0].Axes.Where(axis => axis.BaselineDifferent > 0), axis => Assert.Contains(report.Audits[0].Blames, blame => blame.AxisId == axis.Id && blame.First is not null));
        Assert.All(report.Audits, audit => Assert.True(audit.Axes.Single(axis => axis.Id == "fresh-process").ElementsCompared > 0, "a fresh process ran"));
        Assert.All(report.Audits[1].Axes.Where(axis => axis.NotRun is null), axis => Assert.True(axis.IsInvariant, axis.ToString()));
        Assert.Equal(2, report.Audits[1].Axes.Count(axis => axis.NotRun is not null));
        Assert.Equal(3, Directory.EnumerateFileSystemEntries(_temporary.Path).Count());
    }

    [Fact]
    public async Task ThePromiseHoldsWithExitCode0()
    {
        ToolResult result = await Run(["verify", models.Random, .. s_fewRows, "--axes", "padding,threads", "--seed", "7"]);
        Assert.Equal((ExitCode.Success, ""), (result.ExitCode, result.Error));
        Assert.Contains("seed 7", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task CompletionsAmongOthers()
    {
        string json = File("report.json");
        ToolResult result = await Run(
            ["verify", models.Int4, "--provider", "cpu,batch-invariant", "--completions", "30", "--arrivals", "poisson", "--tokens", "12", "--max-rows", "6", "--prompt", "It was a dark night", "--json", json]);

        Assert.Equal((ExitCode.Varies, ""), (result.ExitCode, result.Error));
        VerificationReport report = VerificationReport.Parse(await System.IO.File.ReadAllTextAsync(json));
        Assert.Empty(report.Audits);
        Assert.All(report.Completions[0].Decodings, decoding => Assert.True(decoding.DistinctLogits > 1, decoding.ToString()));
        Assert.All(report.Completions[1].Decodings, decoding => Assert.Equal((30, 1, 1), (decoding.Completions, decoding.DistinctLogits, decoding.DistinctTexts)));
        Assert.All(report.Completions.SelectMany(served => served.Decodings), decoding =>
        {
            DistinctAnswers answers = decoding.Answers!;
            Assert.Equal((30, decoding.DistinctLogits, decoding.DistinctTexts), (answers.LogitsOfCompletions.Count, answers.TextOfLogits.Count, answers.TextTokens.Count));
            Assert.Equal(Enumerable.Range(0, decoding.DistinctLogits!.Value), answers.LogitsOfCompletions.Distinct());
            Assert.All(answers.TextTokens, tokens => Assert.Equal(12, tokens.Count));
            Assert.Equal(30, Enumerable.Range(0, decoding.DistinctTexts).Sum(answers.CompletionsWith));
            Assert.Equal(decoding.DistinctTexts, answers.TextTokens.Select(tokens => string.Join(' ', tokens)).Distinct().Count());
        });
        Assert.All(report.Completions, served => Assert.True(served is { Preemptions: > 0, LargestBatch: 6, TokensPerSecond: > 0 }, served.ToString()));
    }

    [Fact]
    public async Task CompletionsInBuckets()
    {
        string json = File("report.json");
        ToolResult result = await Run(
            ["verify", models.Int4, "--provider", "cpu,batch-invariant", "--completions", "30", "--buckets", "--tokens", "12", "--max-rows", "6", "--prompt", "It was a dark night", "--json", json]);

        Assert.Equal((ExitCode.Varies, ""), (result.ExitCode, result.Error));
        Assert.Contains("to which they were padded", result.Output, StringComparison.Ordinal);
        VerificationReport report = VerificationReport.Parse(await System.IO.File.ReadAllTextAsync(json));
        Assert.Equal([false, true], report.Completions.Select(completions => completions.IsInvariant));
        Assert.All(report.Completions, completions => Assert.InRange(completions.Shapes, 4, 12));
        (await Run(["verify", models.Int4, "--buckets"])).AssertFailedWith(ExitCode.Usage, "--buckets", "--completions");
    }

    [Fact]
    public async Task CompletionsInGenAIsEngine()
    {
        string json = File("report.json");
        string html = File("report.html");
        ToolResult result = await Run(["verify", models.Int4, "--completions", "20", "--engine", "genai", "--tokens", "8", "--json", json, "--html", html]);

        Assert.Equal((ExitCode.Success, ""), (result.ExitCode, result.Error));
        Assert.All(["in GenAI's Engine", "not seen"], part => Assert.Contains(part, result.Output, StringComparison.Ordinal));
        Assert.Contains("not seen", await System.IO.File.ReadAllTextAsync(html), StringComparison.Ordinal);
        VerificationReport report = VerificationReport.Parse(await System.IO.File.ReadAllTextAsync(json));
        Assert.Equal(("GenAI's Engine", 20, 1), (report.Completions[0].Engine, report.Completions[0].Decodings[0].Completions, report.Completions[0].Decodings[0].DistinctTexts));
        (await Run(["verify", models.Int4, "--engine", "genai"])).AssertFailedWith(ExitCode.Usage, "--engine genai", "--completions");
        (await Run(["verify", Path.Combine(models.Int4, "model.onnx"), "--completions", "20", "--engine", "genai"])).AssertFailedWith(ExitCode.Failure, "bare decoder", "genai_config.json");
    }

    [Fact]
    public async Task ThePromptCanBeChosen()
    {
        string json = File("report.json");
        ToolResult result = await Run(
            ["verify", models.Random, "--completions", "5", "--choose-prompt", "2", "--prompt-tokens", "20", "--tokens", "4", "--max-rows", "3", "--json", json]);

        Assert.Equal((ExitCode.Success, ""), (result.ExitCode, result.Error));
        Assert.Equal(20, VerificationReport.Parse(await System.IO.File.ReadAllTextAsync(json)).Completions[0].PromptTokens);
        (await Run(["verify", models.Random, "--choose-prompt", "2"])).AssertFailedWith(ExitCode.Usage, "--choose-prompt", "--completions");
    }

    /// <summary>Digests that were recorded with one instruction set hold with the others.</summary>
    [Theory]
    [InlineData("scalar")]
    [InlineData("avx2")]
    [InlineData("avx512")]
    public async Task DigestsHoldOnEveryInstructionSet(string instructionSet)
    {
        string file = Path.Combine(AppContext.BaseDirectory, "approved", "demo-int4.digests.json");
        ToolResult result = await Run(["verify", models.Int4, "--check", file], new() { ["ORT_BATCH_INVARIANT_ISA"] = instructionSet });
        if (instructionSet != "scalar" && result.ExitCode == ExitCode.Failure && result.Error.Contains("this machine can run", StringComparison.Ordinal))
        {
            return;
        }

        Assert.Equal((ExitCode.Success, ""), (result.ExitCode, result.Error));
        Assert.Contains("HOLDS The logits of all 166 positions", result.Output, StringComparison.Ordinal);
        Assert.Equal(instructionSet != "scalar", result.Output.Contains("instruction set, scalar then", StringComparison.Ordinal));
    }

    [Fact]
    public async Task DriftIsSeenAndExplained()
    {
        string file = File("digests.json");
        ToolResult recorded = await Run(["verify", models.Int4, "--record", file, "--prompt-tokens", "20", "--tokens", "5"]);
        Assert.Equal((ExitCode.Success, ""), (recorded.ExitCode, recorded.Error));
        Assert.Equal(ExitCode.Success, (await Run(["verify", models.Int4, "--check", file])).ExitCode);

        ToolResult stock = await Run(["verify", models.Int4, "--check", file, "--provider", "cpu"]);
        Assert.Equal(ExitCode.Varies, stock.ExitCode);
        Assert.All(["DRIFTED", "provider, batch-invariant then, cpu now", "library", "contracts"], part => Assert.Contains(part, stock.Output, StringComparison.Ordinal));

        // One digit of one digest.
        JsonElement digests = JsonDocument.Parse(await System.IO.File.ReadAllTextAsync(file)).RootElement;
        string digest = digests.GetProperty("positions")[17].GetString()!;
        string changed = (digest[0] == '0' ? '1' : '0') + digest[1..];
        await System.IO.File.WriteAllTextAsync(file, (await System.IO.File.ReadAllTextAsync(file)).Replace(digest, changed, StringComparison.Ordinal));
        ToolResult drifted = await Run(["verify", models.Int4, "--check", file]);
        Assert.Equal(ExitCode.Varies, drifted.ExitCode);
        Assert.Contains("1 of 25 positions are not the recorded bytes, from position 17 on; nothing else changed", drifted.Output, StringComparison.Ordinal);
    }

    /// <summary>Ctrl-C leaves a report that says that it is not whole.</summary>
    [Fact]
    public async Task StoppingLeavesAPartialReport()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        string html = File("report.html");
        string json = File("report.json");
        ToolResult result = await Tool.RunInterrupted(
            process => System.IO.File.ReadAllText($"/proc/{process.Id}/maps").Contains("libonnxruntime", StringComparison.Ordinal), "verify", models.Int4, "--html", html, "--json", json);
        Assert.Equal((ExitCode.Cancelled, "ortbi: Stopped."), (result.ExitCode, result.Error.Trim()));
        VerificationReport report = VerificationReport.Parse(await System.IO.File.ReadAllTextAsync(json));
        Assert.False(report.IsComplete);
        Assert.Contains("The run was stopped.", await System.IO.File.ReadAllTextAsync(html), StringComparison.Ordinal);
    }

    [Fact]
    public async Task BadInputIsOneSentence()
    {
        (await Run(["verify", "/no/such/model"])).AssertFailedWith(ExitCode.Failure, "/no/such/model");
        (await Run(["verify", models.Int4, "--provider", "tpu"])).AssertFailedWith(ExitCode.Usage, "'tpu'", "batch-invariant");
        (await Run(["verify", models.Int4, "--axes", "colour"])).AssertFailedWith(ExitCode.Usage, "'colour'", "batch-size");
        (await Run(["verify", models.Int4, "--check", models.Int4])).AssertFailedWith(ExitCode.Failure, models.Int4);
        (await Run(["verify", models.Int4, "--record", "a", "--check", "b"])).AssertFailedWith(ExitCode.Usage, "--record");
        (await Run(["verify", models.Int4, "--html", "/no/such/folder/page.html"])).AssertFailedWith(ExitCode.Failure, "/no/such/folder/page.html");
        (await Run(["verify", models.Int4, "--prompt-tokens", "5000"])).AssertFailedWith(ExitCode.Failure, "context of 1024");
        (await Run(["verify", models.Random, "--completions", "10", "--prompt", "some text"])).AssertFailedWith(ExitCode.Failure, "tokenizer");
        string text = File("model.onnx");
        await System.IO.File.WriteAllTextAsync(text, "this is no model");
        (await Run(["verify", text])).AssertFailedWith(ExitCode.Failure, text);
        (await Run(["verify", _temporary.Path])).AssertFailedWith(ExitCode.Failure, _temporary.Path, "genai_config.json", text);
        (await Run(["verify", models.Int4, "--provider", ""])).AssertFailedWith(ExitCode.Usage, "--provider", "batch-invariant");
        (await Run(["verify", models.Random, "--completions", "10", "--max-rows", "100000000"])).AssertFailedWith(ExitCode.Failure, "100000000 rows", "GiB", "fewer rows");
        if (!System.IO.File.Exists("/dev/nvidiactl"))
        {
            (await Run(["verify", models.Random, "--provider", "cuda"])).AssertFailedWith(ExitCode.Failure, "GPU 0", "CUDA provider");
            (await Run(["verify", models.Random, "--device", "cuda"])).AssertFailedWith(ExitCode.Failure, "GPU");
        }

        string other = File("other.onnx");
        System.IO.File.WriteAllBytes(other, NoDecoder());
        (await Run(["verify", other])).AssertFailedWith(ExitCode.Failure, other, "input_ids");
    }

    public void Dispose() => _temporary.Dispose();

    private static byte[] NoDecoder()
    {
        ValueInfoProto Value(string name) => new()
        {
            Name = name,
            Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)TensorProto.Types.DataType.Float, Shape = new TensorShapeProto { Dim = { new TensorShapeProto.Types.Dimension { DimValue = 4 } } } } },
        };
        var graph = new GraphProto { Name = "other", Input = { Value("x") }, Output = { Value("y") }, Node = { new NodeProto { Name = "relu", OpType = "Relu", Input = { "x" }, Output = { "y" } } } };
        return new ModelProto { IrVersion = 10, Graph = graph, OpsetImport = { new OperatorSetIdProto { Domain = "", Version = 21 } } }.ToByteArray();
    }

    private string File(string name) => Path.Combine(_temporary.Path, name);

    private async Task<ToolResult> Run(string[] arguments, Dictionary<string, string>? environment = null)
    {
        ToolResult result = await Tool.Run(environment ?? [], arguments);
        output.WriteLine(result.Output);
        return result;
    }
}
