using System.Text.Json;
using OrtBatchInvariant.Cli.Tests.Support;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Cli.Tests;

[Collection(nameof(Support.Models))]
public sealed class DemoTests(Support.Models models, ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _temporary = new();

    /// <summary>The claim, and the proof that the demo can fail: what stock kernels do to the same model.</summary>
    [Fact]
    public async Task StockVariesAndBatchInvariantDoesNot()
    {
        JsonElement result = await Demo(models.Int4);
        JsonElement[] axes = [.. result.GetProperty("models")[0].GetProperty("axes").EnumerateArray()];
        Assert.Equal(8, axes.Length);
        Assert.All(axes, axis =>
        {
            JsonElement ours = axis.GetProperty("batchInvariant");
            Assert.Equal(1, ours.GetProperty("uniqueLogits").GetInt32());
            Assert.Equal(1, ours.GetProperty("uniqueCompletions").GetInt32());
            Assert.True(ours.GetProperty("logitsCompared").GetInt64() > 0);
            output.WriteLine($"{axis.GetProperty("name")}: {ours.GetProperty("logitsCompared")} logits compared");
        });
        foreach (string name in new[] { "batch size", "chunked prefill", "prefill against decode" })
        {
            JsonElement axis = axes.Single(axis => axis.GetProperty("name").GetString() == name);
            Assert.True(axis.GetProperty("stock").GetProperty("uniqueLogits").GetInt32() > 1, name);
        }

        Assert.True(result.GetProperty("stock").GetProperty("uniqueLogits").GetInt32() > 1);
        Assert.Equal(1, result.GetProperty("batchInvariant").GetProperty("uniqueLogits").GetInt32());
        Assert.True(result.GetProperty("batchInvariant").GetProperty("tokensPerSecond").GetDouble() > 0);
    }

    [Fact]
    public async Task ModelWithoutTokenizerIsGivenTokens()
    {
        JsonElement result = await Demo(models.Random);
        Assert.True(result.GetProperty("batchInvariant").GetProperty("completions").GetInt32() >= 100);
    }

    public void Dispose() => _temporary.Dispose();

    private async Task<JsonElement> Demo(string model)
    {
        string file = Path.Combine(_temporary.Path, "demo.json");
        ToolResult run = await Tool.Run("demo", "--quick", "--model", model, "--json", file);
        output.WriteLine(run.Output);
        Assert.Equal((ExitCode.Success, ""), (run.ExitCode, run.Error));
        Assert.Contains("PASSED", run.Output, StringComparison.Ordinal);
        Assert.Equal([file], Directory.EnumerateFileSystemEntries(_temporary.Path));
        JsonElement result = JsonDocument.Parse(await File.ReadAllTextAsync(file)).RootElement;
        Assert.True(result.GetProperty("passed").GetBoolean());
        return result;
    }
}
