using System.Text.Json;
using OrtBatchInvariant.Cli.Demo;
using OrtBatchInvariant.Cli.Tests.Support;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;
using Spectre.Console;

namespace OrtBatchInvariant.Cli.Tests;

/// <summary>`ortbi demo --device cuda` without a GPU: its loop on the CPU, its verdict, and its refusal.</summary>
[Collection(nameof(Support.Models))]
public sealed class DeviceDemoTests(Support.Models models)
{
    [Fact]
    public void OnePromptHasOneAnswerAndProgressIsTold()
    {
        var progress = new List<(string Name, long Done, long Total)>();
        DeviceDemoResult result = DeviceDemo.Run(
            [new DemoModel("random", ModelFolder.Open(models.Random))],
            new DeviceDemoOptions(DeviceId: null, Prompt: null, Completions: 30, NewTokens: 5, MaxRows: 7, Seed: 11),
            name => new Bar((done, total) => progress.Add((name, done, total))),
            CancellationToken.None);

        DeviceDemoModelResult model = Assert.Single(result.Models);
        Assert.All(model.BatchInvariant.Decodings, decoding => Assert.Equal((30, 1, 1), (decoding.Completions, decoding.DistinctLogits, decoding.DistinctTexts)));
        Assert.All(model.Stock!.Decodings, decoding => Assert.Equal(30, decoding.Completions));
        Assert.True(result.Passed);
        Assert.Equal(("cpu", ""), (result.Device, result.SelfTest));
        Assert.Equal(("random, batch-invariant", 60L, 60L), progress[^1]);
        Assert.Contains(progress, step => step.Name == "random, stock");
    }

    [Fact]
    public void CancellingStopsIt()
    {
        using var cancellation = new CancellationTokenSource();
        cancellation.Cancel();
        Assert.Throws<OperationCanceledException>(() => DeviceDemo.Run(
            [new DemoModel("random", ModelFolder.Open(models.Random))],
            new DeviceDemoOptions(null, [1, 2, 3], 30, 5, 7, 11), _ => new Bar((_, _) => { }), cancellation.Token));
    }

    [Theory]
    [InlineData(1, true, "PASSED")]
    [InlineData(3, false, "up to 3 different logits")]
    public void Verdict(int uniqueLogits, bool passed, string part)
    {
        var result = new DeviceDemoResult(
            "cuda:0 GPU", "5 comparisons", [new DeviceDemoModelResult(new DemoModel("model", ModelFolder.Open(models.Random)), null, Result(uniqueLogits))], 1, TimeSpan.FromSeconds(1));
        Assert.Equal(passed, result.Passed);

        using var writer = new StringWriter();
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer), Ansi = AnsiSupport.No });
        console.Profile.Width = 200;
        DeviceDemoReport.Print(result, console);
        Assert.All([part, StockCuda.LibraryVariable, "5 comparisons", "cuda:0 GPU"], text => Assert.Contains(text, writer.ToString(), StringComparison.Ordinal));
        Assert.Equal(passed, writer.ToString().Contains("PASSED", StringComparison.Ordinal));

        JsonElement json = JsonDocument.Parse(DeviceDemoReport.ToJson(result)).RootElement;
        Assert.Equal(passed, json.GetProperty("passed").GetBoolean());
        Assert.Equal(uniqueLogits, json.GetProperty("models")[0].GetProperty("batchInvariant").GetProperty("decodings")[0].GetProperty("distinctLogits").GetInt32());
    }

    [Fact]
    public async Task WithoutAGpuItSaysWhatIsMissing()
    {
        if (File.Exists("/dev/nvidiactl"))
        {
            return;
        }

        (await Tool.Run("demo", "--device", "cuda", "--model", models.Random)).AssertFailedWith(ExitCode.Failure, "--device cuda", "NVIDIA GPU", "driver");
    }

    private static ServingResult Result(int uniqueLogits) => new(
        new AuditSubject("model", "", "batch-invariant", "GPU", "", "", "", []), [new DecodingResult("temperature 0", 10, uniqueLogits, 1, null, null, [])],
        4, 5, 20, 0, 4, 1000, 100, 100, 1, 1, 10, false, "poisson", 1, true);

    private sealed class Bar(Action<long, long> set) : IProgressBar
    {
        public void Set(long done, long total, string? text) => set(done, total);
    }
}
