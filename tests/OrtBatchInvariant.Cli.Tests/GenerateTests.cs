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

    [Fact]
    public async Task SeedMatters() =>
        Assert.NotEqual(
            (await Generate("--temperature", "1.2", "--seed", "1")).Output,
            (await Generate("--temperature", "1.2", "--seed", "2")).Output);

    private Task<ToolResult> Generate(params string[] options) =>
        Tool.Run(["generate", models.Int4, "-p", Prompt, "--max-tokens", "16", .. options]);
}
