using System.Diagnostics;
using OrtBatchInvariant.GenAI.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.GenAI.Tests;

/// <summary>
/// The program of the README as a process of its own, where GenAI is used before ONNX Runtime is, and where nothing but the
/// program's own folder helps to find the native libraries.
/// </summary>
[Collection(DemoModels.Name)]
public sealed class SampleProgramTests(DemoModels models, ITestOutputHelper output)
{
    [Fact]
    public async Task WritesTheSameTextEveryTime()
    {
        (int exitCode, string text, string error) = await Run([]);
        output.WriteLine(text + error);
        Assert.Equal(0, exitCode);
        Assert.NotEmpty(text.Trim());
        Assert.Equal(text, (await Run([])).Output);
    }

    [Fact]
    public async Task MissingNativeLibraryIsOneSentence()
    {
        (int exitCode, _, string error) = await Run(new() { [BatchInvariantProvider.LibraryVariable] = "/no/such/lib.so" });
        Assert.NotEqual(0, exitCode);
        Assert.Contains(
            "The environment variable ORT_BATCH_INVARIANT_LIBRARY names '/no/such/lib.so', which is not a file: correct or unset it.", error, StringComparison.Ordinal);
    }

    private async Task<(int ExitCode, string Output, string Error)> Run(Dictionary<string, string> environment)
    {
        var start = new ProcessStartInfo("dotnet", [DemoModels.Metadata("SampleProgram"), models.Int4, "The President said that"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Path.GetTempPath(),
        };
        foreach ((string key, string value) in environment)
        {
            start.Environment[key] = value;
        }

        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string text = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, text, await error);
    }
}
