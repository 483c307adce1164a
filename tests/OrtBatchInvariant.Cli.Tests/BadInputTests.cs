using OrtBatchInvariant.Cli.Tests.Support;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Cli.Tests;

/// <summary>One sentence on stderr and an exit code, whatever is wrong.</summary>
[Collection(nameof(Support.Models))]
public sealed class BadInputTests(Support.Models models) : IDisposable
{
    private readonly TemporaryFolder _temporary = new();

    public static TheoryData<string[], string> UsageErrors => new()
    {
        { ["no-such-command"], "no-such-command" },
        { ["generate", "model"], "--prompt" },
        { ["generate", "model", "-p", "x", "--threads", "0"], "--threads is 0" },
        { ["generate", "model", "-p", "x", "--max-tokens", "-1"], "--max-tokens is -1" },
        { ["generate", "model", "-p", "x", "--threads", "two"], "--threads is 'two': use a whole number" },
        { ["generate", "model", "-p", "x", "--threads", "3000000000"], "--threads is '3000000000': use a whole number" },
        { ["generate", "model", "-p", "x", "--temperature", "0,8"], "--temperature is '0,8': use a number of 0 or more, for example 0.8" },
        { ["generate", "model", "-p", "x", "--temperature", "-1"], "--temperature is '-1'" },
        { ["generate", "model", "-p", "x", "--temperature", "NaN"], "--temperature is 'NaN'" },
        { ["generate", "model", "-p", "x", "--seed", "1"], "--seed goes with --temperature" },
        { ["verify", "model", "--arrivals", "never"], "--arrivals is 'never': use poisson or batches" },
        { ["verify", "model", "--engine", "none"], "--engine is 'none': use session or genai" },
        { ["verify", "model", "--choose-prompt", "many"], "--choose-prompt is 'many': use a whole number" },
        { ["verify", "model", "--max-rows", "1"], "--max-rows is 1: use 2 or more" },
        { ["verify", "--quik", "model"], "'--quik' is not" },
        { ["bench", "--quik"], "'--quik' is not" },
        { ["export", "in", "out", "--precision", "int3"], "--precision is 'int3': use fp32 or fp16 or bf16 or int4 or int8" },
        { ["export", "in"], "two folders" },
        { ["export", "out", "--random"], "--like" },
        { ["export", "in", "out", "--accuracy-level", "0"], "--precision int4" },
        { ["bench", "--batch", "1,x"], "--batch" },
        { ["convert", "in"], "convert" },
        { ["demo", "--device", "tpu"], "tpu" },
        { ["demo", "--device", "cuda", "--device-id", "-1"], "--device-id is -1" },
    };

    [Theory]
    [MemberData(nameof(UsageErrors))]
    public async Task UsageErrorIsExitCode2(string[] arguments, string part) =>
        (await Tool.Run(arguments)).AssertFailedWith(ExitCode.Usage, part);

    [Theory]
    [InlineData("generate")]
    [InlineData("inspect")]
    [InlineData("demo")]
    [InlineData("bench")]
    public async Task MissingFolder(string command) =>
        (await Run(command, "/no/such/model")).AssertFailedWith(ExitCode.Failure, "/no/such/model", "no such model folder");

    [Theory]
    [InlineData("generate")]
    [InlineData("inspect")]
    public async Task NotAModelFolder(string command) =>
        (await Run(command, _temporary.Path)).AssertFailedWith(ExitCode.Failure, _temporary.Path, "genai_config.json", "ortbi export");

    [Theory]
    [InlineData("{ \"model\": ", "not valid JSON")]
    [InlineData("[]", "'model' is missing")]
    [InlineData("{ \"model\": { \"decoder\": {} } }", "'model.decoder.filename'")]
    [InlineData("{ \"model\": { \"decoder\": { \"filename\": \"model.onnx\" }, \"context_length\": \"many\" } }", "'model.context_length'")]
    public async Task MalformedConfig(string config, string part)
    {
        string model = Copy(models.Int4);
        await File.WriteAllTextAsync(Path.Combine(model, "genai_config.json"), config);
        (await Run("generate", model)).AssertFailedWith(ExitCode.Failure, "genai_config.json", part);
    }

    [Theory]
    [InlineData("generate")]
    [InlineData("inspect")]
    public async Task MissingModelFile(string command)
    {
        string model = Copy(models.Int4);
        File.Delete(Path.Combine(model, "model.onnx"));
        (await Run(command, model)).AssertFailedWith(ExitCode.Failure, "model.onnx", "no such model file");
    }

    [Theory]
    [InlineData("generate", "model.onnx")]
    [InlineData("generate", "model.onnx.data")]
    [InlineData("inspect", "model.onnx")]
    [InlineData("inspect", "model.onnx.data")]
    public async Task TruncatedModelFile(string command, string file)
    {
        string model = Copy(models.Int4);
        using (FileStream stream = File.OpenWrite(Path.Combine(model, file)))
        {
            stream.SetLength(stream.Length / 2);
        }

        (await Run(command, model)).AssertFailedWith(ExitCode.Failure, model, command == "inspect" ? "truncated" : "load");
    }

    [Theory]
    [InlineData("generate")]
    [InlineData("inspect")]
    [InlineData("demo")]
    public async Task MissingNativeLibrary(string command)
    {
        var environment = new Dictionary<string, string> { [BatchInvariantProvider.LibraryVariable] = "/no/such/library.so" };
        (await Run(command, models.Int4, environment)).AssertFailedWith(ExitCode.Failure, "/no/such/library.so", "not a file");
    }

    [Fact]
    public async Task ModelWithoutTokenizerTakesNoText() =>
        (await Run("generate", models.Random)).AssertFailedWith(ExitCode.Failure, models.Random, "tokenizer");

    [Fact]
    public async Task PromptThatFillsTheContext() =>
        (await Tool.Run("generate", models.Int4, "-p", string.Join(' ', Enumerable.Repeat("whale", 2000)))).AssertFailedWith(ExitCode.Failure, "context", "1024");

    [Fact]
    public async Task JsonFileInMissingFolderIsRefusedBeforeTheWork() =>
        (await Tool.Run("demo", "--model", models.Int4, "--json", "/no/such/folder/x.json")).AssertFailedWith(ExitCode.Failure, "/no/such/folder/x.json");

    [Fact]
    public async Task JsonFileThatCannotBeWrittenIsRefusedBeforeTheWork()
    {
        if (OperatingSystem.IsLinux())
        {
            (await Tool.Run("demo", "--model", models.Int4, "--json", "/proc/x.json")).AssertFailedWith(ExitCode.Failure, "/proc/x.json: cannot be written", "'/proc/x.json'");
        }
    }

    public void Dispose() => _temporary.Dispose();

    private static Task<ToolResult> Run(string command, string model, Dictionary<string, string>? environment = null) => Tool.Run(environment ?? [], command switch
    {
        "generate" => [command, model, "-p", "The whale"],
        "demo" => [command, "--quick", "--model", model],
        _ => [command, model],
    });

    private string Copy(string model)
    {
        string copy = Path.Combine(_temporary.Path, "copy");
        Directory.CreateDirectory(copy);
        foreach (string file in Directory.EnumerateFiles(model))
        {
            File.Copy(file, Path.Combine(copy, Path.GetFileName(file)));
        }

        return copy;
    }
}
