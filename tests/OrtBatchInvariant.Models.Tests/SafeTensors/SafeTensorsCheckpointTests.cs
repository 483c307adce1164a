using OrtBatchInvariant.Models.SafeTensors;
using OrtBatchInvariant.Models.Tests.Support;

namespace OrtBatchInvariant.Models.Tests.SafeTensors;

public class SafeTensorsCheckpointTests
{
    private const string Index = "model.safetensors.index.json";

    [Fact]
    public void ShardsAreOneSetOfTensors()
    {
        using var folder = new TemporaryFolder();
        Shard(folder, "s1.safetensors", "a", 1);
        Shard(folder, "s2.safetensors", "b", 2);
        File.WriteAllText(folder[Index], """{"metadata":{"total_size":8},"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}}""");

        using var checkpoint = SafeTensorsCheckpoint.Open(folder.Path);
        Assert.Equal(["a", "b"], checkpoint.Names.Order());
        Assert.True(checkpoint.TryGet("b", out var tensor, out var file));
        var value = new float[1];
        file.Read(tensor, 0, value);
        Assert.Equal(2f, value[0]);
    }

    [Theory]
    [InlineData("""{"weight_map":{"a":"s1.safetensors","c":"s2.safetensors","b":"s2.safetensors"}}""", "'c' is not in 's2.safetensors'")]
    [InlineData("""{"weight_map":{"a":"s2.safetensors","b":"s1.safetensors"}}""", "tensor 'a' is not in 's2.safetensors'")]
    [InlineData("""{"weight_map":{"a":"s1.safetensors","b":"s3.safetensors"}}""", "no such safetensors file")]
    [InlineData("""{"weight_map":{"a":"../s1.safetensors"}}""", "'../s1.safetensors' is not a plain file name")]
    [InlineData("""{"weight_map":{"a":"/etc/passwd"}}""", "'/etc/passwd' is not a plain file name")]
    [InlineData("""{"weight_map":{"a":"c:\\s1.safetensors"}}""", "is not a plain file name")]
    [InlineData("""{"weight_map":{"a":".."}}""", "is not a plain file name")]
    [InlineData("""{"weight_map":{"a":""}}""", "is not a plain file name")]
    [InlineData("""{"weight_map":{"a":"s1.safetensors","a":"s2.safetensors"}}""", "'a' is listed twice")]
    [InlineData("""{"weight_map":{"a":3}}""", "not a checkpoint index")]
    [InlineData("""{"weight_map":[]}""", "not a checkpoint index")]
    [InlineData("""{}""", "not a checkpoint index")]
    [InlineData("""{"weight_map":{"a":"s1""", "not a checkpoint index")]
    public void AWrongIndexIsRefused(string index, string expected)
    {
        using var folder = new TemporaryFolder();
        Shard(folder, "s1.safetensors", "a", 1);
        Shard(folder, "s2.safetensors", "b", 2);
        File.WriteAllText(folder[Index], index);
        var error = Assert.Throws<ModelException>(() => SafeTensorsCheckpoint.Open(folder.Path));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ATensorInTwoShardsIsRefused()
    {
        using var folder = new TemporaryFolder();
        SafeTensorsWriter.Write(folder["s1.safetensors"], "F32", [("a", [1], [1f]), ("b", [1], [1f])]);
        Shard(folder, "s2.safetensors", "b", 2);
        File.WriteAllText(folder[Index], """{"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}}""");
        var error = Assert.Throws<ModelException>(() => SafeTensorsCheckpoint.Open(folder.Path));
        Assert.Contains("tensor 'b' is also in", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ATensorThatTheIndexDoesNotListIsRefused()
    {
        using var folder = new TemporaryFolder();
        SafeTensorsWriter.Write(folder["s1.safetensors"], "F32", [("a", [1], [1f]), ("b", [1], [1f])]);
        File.WriteAllText(folder[Index], """{"weight_map":{"a":"s1.safetensors"}}""");
        var error = Assert.Throws<ModelException>(() => SafeTensorsCheckpoint.Open(folder.Path));
        Assert.Contains("tensor 'b' is not in model.safetensors.index.json", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFolderWithoutSafetensorsIsRefused()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["pytorch_model.bin"], "x");
        var error = Assert.Throws<ModelException>(() => SafeTensorsCheckpoint.Open(folder.Path));
        Assert.Contains("only checkpoints in the safetensors format", error.Message, StringComparison.Ordinal);
    }

    private static void Shard(TemporaryFolder folder, string file, string tensor, float value) =>
        SafeTensorsWriter.Write(folder[file], "F32", [(tensor, [1], [value])]);
}
