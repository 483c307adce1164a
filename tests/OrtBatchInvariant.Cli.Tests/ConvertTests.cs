using System.Diagnostics;
using System.Text.Json;
using Google.Protobuf;
using OrtBatchInvariant.Cli.Tests.Support;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Cli.Tests;

[Collection(nameof(Support.Models))]
public sealed class ConvertTests(Support.Models models) : IDisposable
{
    private const int Kills = 12;

    private readonly TemporaryFolder _temporary = new();

    [Fact]
    public async Task FolderIsConvertedAndInspectsAsServed()
    {
        string converted = Path.Combine(_temporary.Path, "converted");
        ToolResult result = await Tool.Run("convert", models.Int4, converted);
        Assert.Equal((ExitCode.Success, ""), (result.ExitCode, result.Error));
        Assert.Contains("nodes converted", result.Output, StringComparison.Ordinal);
        JsonElement options = JsonDocument.Parse(File.ReadAllText(Path.Combine(converted, "genai_config.json"))).RootElement
            .GetProperty("model").GetProperty("decoder").GetProperty("session_options");
        Assert.Equal("libort_batch_invariant.so", options.GetProperty("custom_ops_library").GetString());

        ToolResult inspected = await Tool.Run("inspect", converted, "--json");
        JsonElement root = JsonDocument.Parse(inspected.Output).RootElement;
        Assert.Equal((ExitCode.Success, 0), (inspected.ExitCode, root.GetProperty("varyingNodes").GetInt32()));
        JsonElement[] custom = [.. root.GetProperty("nodes").EnumerateArray().Where(node => node.GetProperty("domain").GetString() == "ort.batch_invariant")];
        Assert.NotEmpty(custom);
        Assert.All(custom, node => Assert.Equal("batch-invariant", node.GetProperty("servedBy").GetString()));
        Assert.All(custom, node => Assert.NotEmpty(node.GetProperty("contract").GetString()!));
        Assert.Empty(root.GetProperty("session").GetProperty("differences").EnumerateArray());

        ToolResult again = await Tool.Run("convert", converted, Path.Combine(_temporary.Path, "again"));
        Assert.Contains("converted already", again.Output, StringComparison.Ordinal);
        AssertSameFiles(converted, Path.Combine(_temporary.Path, "again"));

        string back = Path.Combine(_temporary.Path, "back");
        Assert.Equal(ExitCode.Success, (await Tool.Run("convert", "--revert", converted, back)).ExitCode);
        AssertSameFiles(models.Int4, back);
    }

    [Fact]
    public async Task NodeThatWouldStillVary()
    {
        string file = _temporary.Write("in/double.onnx");
        InspectTests.WriteMatMul(file, TensorProto.Types.DataType.Double);
        string output = Path.Combine(_temporary.Path, "out");
        (await Tool.Run("convert", file, output)).AssertFailedWith(ExitCode.Failure, file, "'the_product'", "--no-strict");
        Assert.False(Directory.Exists(output));
        ToolResult allowed = await Tool.Run("convert", file, output, "--no-strict");
        Assert.Equal((ExitCode.Varies, ""), (allowed.ExitCode, allowed.Error));
        Assert.Contains("the_product", allowed.Output, StringComparison.Ordinal);
    }

    /// <summary>A conversion killed at any moment leaves no output folder, or a whole one.</summary>
    [Fact]
    public async Task KilledConversionLeavesNothingThatLooksFinished()
    {
        string input = Path.Combine(_temporary.Path, "in");
        Directory.CreateDirectory(input);
        foreach (string file in Directory.GetFiles(models.Int4))
        {
            File.Copy(file, Path.Combine(input, Path.GetFileName(file)));
        }

        // Enough to copy that kills come in the middle of it.
        using (FileStream ballast = File.Create(Path.Combine(input, "ballast.bin")))
        {
            ballast.SetLength(512 << 20);
        }

        string whole = Path.Combine(_temporary.Path, "whole");
        Stopwatch time = Stopwatch.StartNew();
        Assert.Equal(ExitCode.Success, (await Tool.Run("convert", input, whole)).ExitCode);
        double milliseconds = time.Elapsed.TotalMilliseconds;
        string[] expected = [.. Directory.GetFiles(whole).Select(file => $"{Path.GetFileName(file)} {new FileInfo(file).Length}").Order()];
        Directory.Delete(whole, recursive: true);

        var random = new Random(7);
        int killed = 0;
        for (int i = 0; i < Kills; i++)
        {
            string output = Path.Combine(_temporary.Path, $"out{i}");
            DateTime begun = DateTime.Now;
            using Process process = Tool.Start("convert", input, output);
            await Task.Delay((int)(milliseconds * (0.3 + (0.7 * random.NextDouble()))));
            if (!process.HasExited)
            {
                process.Kill();
                killed++;
            }

            await process.WaitForExitAsync();
            if (process.ExitCode == ExitCode.Success)
            {
                // The first run read its files from a slower disk than the later ones do.
                milliseconds = Math.Min(milliseconds, (process.ExitTime - begun).TotalMilliseconds);
            }

            if (Directory.Exists(output))
            {
                Assert.Equal(expected, Directory.GetFiles(output).Select(file => $"{Path.GetFileName(file)} {new FileInfo(file).Length}").Order());
            }

            foreach (string left in Directory.GetDirectories(_temporary.Path).Where(folder => folder != input))
            {
                Assert.True(left == output || (Path.GetFileName(left).StartsWith('.') && left.EndsWith(".partial", StringComparison.Ordinal)), left);
                Directory.Delete(left, recursive: true);
            }
        }

        Assert.InRange(killed, 1, Kills);
    }

    public void Dispose() => _temporary.Dispose();

    private static void AssertSameFiles(string expected, string actual)
    {
        string[] files = [.. Directory.GetFiles(expected).Select(file => Path.GetFileName(file)!).Order()];
        Assert.Equal(files, Directory.GetFiles(actual).Select(file => Path.GetFileName(file)!).Order());
        Assert.All(files, file => Assert.Equal(File.ReadAllBytes(Path.Combine(expected, file)), File.ReadAllBytes(Path.Combine(actual, file))));
    }
}
