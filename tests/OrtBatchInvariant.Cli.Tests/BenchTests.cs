using System.Text.Json;
using OrtBatchInvariant.Cli.Tests.Support;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Cli.Tests;

[Collection(nameof(Support.Models))]
public sealed class BenchTests(Support.Models models) : IDisposable
{
    private readonly TemporaryFolder _temporary = new();

    [Fact]
    public async Task WritesARecord()
    {
        string file = Path.Combine(_temporary.Path, "bench.json");
        ToolResult run = await Tool.Run("bench", models.Random, "--no-ops", "--batch", "1,2", "--prompt", "20,40,1000000", "--threads", "1", "--json", file);
        Assert.Equal((ExitCode.Success, ""), (run.ExitCode, run.Error));
        Assert.Contains("GFLOP/s", run.Output, StringComparison.Ordinal);

        JsonElement record = JsonDocument.Parse(await File.ReadAllTextAsync(file)).RootElement;
        Assert.All(["device", "date", "command", "onnxruntime"], name => Assert.NotEmpty(record.GetProperty(name).GetString()!));
        ILookup<string, JsonElement> subjects = record.GetProperty("rows").EnumerateArray().ToLookup(row => row.GetProperty("subject").GetString()!);
        JsonElement[] rows = [.. subjects["generate"]];
        Assert.Equal([1, 2], rows.Select(row => row.GetProperty("rows").GetInt32()));
        Assert.All(rows, row =>
        {
            double peer = row.GetProperty("peerTokensPerSecond").GetDouble();
            double ours = row.GetProperty("tokensPerSecond").GetDouble();
            Assert.True(peer > 0 && ours > 0);
            Assert.Equal(ours / peer, row.GetProperty("ratio").GetDouble(), 0.01);
        });

        // The prompt that exceeds the model's context is left out.
        JsonElement[] prompts = [.. subjects["prompt"]];
        Assert.Equal([20, 40], prompts.Select(row => row.GetProperty("rows").GetInt32()));
        foreach ((string rate, string time) in ((string, string)[])[("peerTokensPerSecond", "peerMicroseconds"), ("tokensPerSecond", "microseconds")])
        {
            Assert.All(prompts, row =>
            {
                double tokensPerSecond = row.GetProperty(rate).GetDouble();
                Assert.Equal(row.GetProperty("rows").GetInt32() / row.GetProperty(time).GetDouble() * 1e6, tokensPerSecond, 0.01 * tokensPerSecond);
            });
            double[] loads = [.. subjects["load"].Select(row => row.GetProperty(time).GetDouble())];
            Assert.Equal(2, loads.Length);
            Assert.True(loads[0] > 0 && loads[1] > loads[0], $"{time}: {string.Join(", ", loads)}");
        }

        JsonElement[] memory = [.. subjects["memory"]];
        Assert.Equal(2, memory.Length);
        foreach (string side in (string[])["peerMegabytes", "megabytes"])
        {
            double[] peaks = [.. memory.Select(row => row.GetProperty(side).GetDouble())];
            Assert.True(peaks[0] > 10 && peaks[1] >= peaks[0], $"{side}: {string.Join(", ", peaks)}");
        }
    }

    [Fact]
    public async Task MeasuresTheOperatorsThatAreAskedFor()
    {
        string file = Path.Combine(_temporary.Path, "ops.json");
        ToolResult run = await Tool.Run("bench", "--ops", "--op", "Softmax", "--milliseconds", "20", "--threads", "1", "--json", file);
        Assert.Equal((ExitCode.Success, ""), (run.ExitCode, run.Error));
        JsonElement[] rows = [.. JsonDocument.Parse(await File.ReadAllTextAsync(file)).RootElement.GetProperty("rows").EnumerateArray()];
        Assert.NotEmpty(rows);
        Assert.All(rows, row =>
        {
            Assert.Equal("Softmax", row.GetProperty("op").GetString());
            Assert.All(["peerMicroseconds", "microseconds", "floorMicroseconds"], side => Assert.True(row.GetProperty(side).GetDouble() > 0));
        });

        run = await Tool.Run("bench", "--ops", "--op", "Softmaxx");
        Assert.NotEqual(ExitCode.Success, run.ExitCode);
        Assert.Contains("not 'Softmaxx'", run.Error, StringComparison.Ordinal);
    }

    public void Dispose() => _temporary.Dispose();
}
