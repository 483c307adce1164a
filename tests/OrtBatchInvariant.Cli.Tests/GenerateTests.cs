using System.Diagnostics;
using OrtBatchInvariant.Cli.Tests.Support;

namespace OrtBatchInvariant.Cli.Tests;

[Collection(nameof(Support.Models))]
public sealed class GenerateTests(Support.Models models)
{
    private const string Prompt = "The old captain looked at the sea and";

    [Theory]
    [InlineData("--threads", "2")]
    [InlineData("--stock")]
    [InlineData("--temperature", "0.8", "--seed", "7")]
    public async Task ContinuesThePromptTheSameWayTwice(params string[] options)
    {
        ToolResult first = await Generate(options);
        Assert.Equal(ExitCode.Success, first.ExitCode);
        Assert.StartsWith(Prompt, first.Output, StringComparison.Ordinal);
        Assert.True(first.Output.Trim().Length > Prompt.Length + 10, first.Output);
        Assert.Contains("16 tokens", first.Error, StringComparison.Ordinal);
        Assert.Equal(first.Output, (await Generate(options)).Output);
    }

    /// <summary>Where 0,8 is how people write it, 0.8 is still 0.8, and help speaks one language.</summary>
    [Fact]
    public async Task TheSameInEveryLocale()
    {
        string[] arguments = ["generate", models.Int4, "-p", Prompt, "--max-tokens", "16", "--temperature", "0.8", "--seed", "7"];
        var german = new Dictionary<string, string> { ["LC_ALL"] = "de_DE.UTF-8" };
        Assert.Equal((await Tool.Run(arguments)).Output, (await Tool.Run(german, arguments)).Output);
        Assert.Contains("Options:", (await Tool.Run(german, "generate", "--help")).Output, StringComparison.Ordinal);
    }

    /// <summary>`ortbi generate … | head -c 5` stops when head does, and says nothing.</summary>
    [Fact]
    public async Task StopsWhenNobodyReads()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        using Process process = Tool.Start("generate", models.Int4, "-p", Prompt, "--max-tokens", "10000");
        Assert.Equal(5, await process.StandardOutput.ReadBlockAsync(new char[5]));
        process.StandardOutput.Close();
        string error = await process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.Equal((ExitCode.OutputClosed, ""), (process.ExitCode, error));
    }

    [Fact]
    public async Task WithoutArgumentsItShowsItsHelp()
    {
        ToolResult result = await Tool.Run();
        Assert.Equal((ExitCode.Success, ""), (result.ExitCode, result.Error));
        Assert.Contains("ortbi demo --quick", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task SeedMatters() =>
        Assert.NotEqual(
            (await Generate("--temperature", "1.2", "--seed", "1")).Output,
            (await Generate("--temperature", "1.2", "--seed", "2")).Output);

    private Task<ToolResult> Generate(params string[] options) =>
        Tool.Run(["generate", models.Int4, "-p", Prompt, "--max-tokens", "16", .. options]);
}
