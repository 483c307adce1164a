using OrtBatchInvariant.Cli.Tests.Support;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Cli.Tests;

[Collection(nameof(Support.Models))]
public sealed class ExportTests(Support.Models models) : IDisposable
{
    private readonly TemporaryFolder _temporary = new();

    private string Output => Path.Combine(_temporary.Path, "out");

    [Theory]
    [InlineData("--precision", "fp32")]
    [InlineData("--precision", "int4", "--accuracy-level", "4", "--block-size", "64", "--asymmetric")]
    [InlineData("--precision", "int8")]
    public async Task ExportedModelGenerates(params string[] options)
    {
        ToolResult export = await Tool.Run(["export", models.Checkpoint, Output, .. options]);
        Assert.Equal((ExitCode.Success, ""), (export.ExitCode, export.Error));
        Assert.Contains(Output, export.Output, StringComparison.Ordinal);
        ToolResult generate = await Tool.Run("generate", Output, "-p", "The whale", "--max-tokens", "4");
        Assert.Equal(ExitCode.Success, generate.ExitCode);
    }

    [Theory]
    [InlineData("--precision", "fp16")]
    [InlineData("--precision", "bf16")]
    [InlineData("--precision", "int4", "--device", "cuda", "--bf16-activations")]
    public async Task GraphsForGpusAreMadeHereToo(params string[] options)
    {
        ToolResult export = await Tool.Run(["export", models.Checkpoint, Output, "--context-length", "64", .. options]);
        Assert.Equal((ExitCode.Success, ""), (export.ExitCode, export.Error));
        string config = await File.ReadAllTextAsync(Path.Combine(Output, "genai_config.json"));
        Assert.Contains("\"cuda\"", config, StringComparison.Ordinal);
        Assert.Contains("\"context_length\": 64", config, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Precision Fp32 is for the target Cpu", "--device", "cuda")]
    [InlineData("Context length 100000000 cannot be used", "--context-length", "100000000")]
    public async Task OptionsThatDoNotFitAreRefused(string reason, params string[] options)
    {
        (await Tool.Run(["export", models.Checkpoint, Output, .. options])).AssertFailedWith(ExitCode.Failure, reason);
        Assert.False(Directory.Exists(Output));
    }

    [Fact]
    public async Task TakenFolderIsLeftAloneUnlessForced()
    {
        string file = Path.Combine(Directory.CreateDirectory(Output).FullName, "mine.txt");
        await File.WriteAllTextAsync(file, "mine");
        (await Tool.Run("export", models.Checkpoint, Output)).AssertFailedWith(ExitCode.Failure, Output, "--force");
        Assert.Equal([file], Directory.EnumerateFileSystemEntries(Output));

        Assert.Equal(ExitCode.Success, (await Tool.Run("export", models.Checkpoint, Output, "--force")).ExitCode);
        Assert.False(File.Exists(file));
        Assert.True(File.Exists(Path.Combine(Output, "model.onnx")));
    }

    [Fact]
    public async Task FailedExportLeavesNothing()
    {
        string checkpoint = Directory.CreateDirectory(Path.Combine(_temporary.Path, "in")).FullName;
        foreach (string name in new[] { "config.json", "model.safetensors" })
        {
            File.Copy(Path.Combine(models.Checkpoint, name), Path.Combine(checkpoint, name));
        }

        using (FileStream weights = File.OpenWrite(Path.Combine(checkpoint, "model.safetensors")))
        {
            weights.SetLength(weights.Length / 2);
        }

        (await Tool.Run("export", checkpoint, Output)).AssertFailedWith(ExitCode.Failure, "model.safetensors");
        Assert.Equal([checkpoint], Directory.EnumerateFileSystemEntries(_temporary.Path));
    }

    [Fact]
    public async Task CtrlCLeavesNothing()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        // Eight thousand million weights: far from done a second later.
        ToolResult result = await Tool.RunInterrupted(_ => Directory.EnumerateFileSystemEntries(_temporary.Path).Any(), "export", "--random", "--like", "llama3-8b", Output);
        Assert.Equal((ExitCode.Cancelled, "ortbi: Stopped."), (result.ExitCode, result.Error.Trim()));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_temporary.Path));
    }

    [Fact]
    public async Task FolderThatCannotBeWrittenIsNamedAsItWasGiven()
    {
        if (OperatingSystem.IsLinux())
        {
            (await Tool.Run("export", models.Checkpoint, "/proc/out")).AssertFailedWith(ExitCode.Failure, "/proc/out: cannot be written", "'/proc/out'");
        }
    }

    [Fact]
    public async Task UnknownShapeNamesThoseThatAreKnown() =>
        (await Tool.Run("export", Output, "--random", "--like", "gpt-7")).AssertFailedWith(ExitCode.Failure, "gpt-7", "qwen3-0.6b");

    public void Dispose() => _temporary.Dispose();
}
