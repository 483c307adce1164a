using System.Text.Json.Nodes;
using OrtBatchInvariant.Models.SafeTensors;
using OrtBatchInvariant.Models.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Models.Tests.SafeTensors;

public class SafeTensorsFileTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("F32")]
    [InlineData("F16")]
    [InlineData("BF16")]
    public void ValuesComeBackAsTheyWereStored(string dataType)
    {
        using var folder = new TemporaryFolder();
        var random = new Random(11);
        float[] special = [0f, -0f, 1f, -1.5f, float.PositiveInfinity, float.NegativeInfinity, 65504f, 6e-8f];
        var a = special.Concat(Enumerable.Range(0, 992).Select(_ => (float)(random.NextDouble() - 0.5))).ToArray();
        var b = Enumerable.Range(0, 35).Select(_ => (float)random.NextDouble()).ToArray();
        SafeTensorsWriter.Write(
            folder["x.safetensors"], dataType, [("a", [10, 100], a), ("b", [5, 7], b), ("none", [0, 4], []), ("scalar", [], [3f])]);

        using var file = SafeTensorsFile.Open(folder["x.safetensors"]);
        Assert.Equal(["a", "b", "none", "scalar"], file.Tensors.Select(t => t.Name));
        var compared = 0;
        foreach (var (name, values) in ((string, float[])[])[("a", a), ("b", b), ("scalar", [3f])])
        {
            Assert.True(file.TryGet(name, out var tensor));
            var read = new float[values.Length];
            file.Read(tensor, 0, read);
            for (var i = 0; i < values.Length; i++)
            {
                var expected = SafeTensorsWriter.Rounded(dataType, values[i]);
                Assert.Equal(BitConverter.SingleToInt32Bits(expected), BitConverter.SingleToInt32Bits(read[i]));
                compared++;
            }

            var last = new float[1];
            file.Read(tensor, values.Length - 1, last);
            Assert.Equal(read[^1], last[0]);
            Assert.Throws<ArgumentOutOfRangeException>(() => file.Read(tensor, values.Length, new float[1]));
        }

        output.WriteLine($"{compared} values compared");
        Assert.NotEqual(0, compared);
    }

    public static TheoryData<string, string, int, string> Lies => new()
    {
        // Case, header, bytes of data, part of the message.
        { "not JSON", "{\"a\":", 0, "not valid JSON" },
        { "not an object", "[1]", 0, "not a JSON object" },
        { "text after the object", "{} {}", 0, "not valid JSON" },
        { "tensor not an object", "{\"a\":3}", 0, "'a' is not described" },
        { "no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'a' lacks" },
        { "no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "'a' lacks" },
        { "no offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "'a' lacks" },
        { "unknown dtype", Tensor("F33", "[1]", 0, 4), 4, "unknown dtype 'F33'" },
        { "dtype a number", "{\"a\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype that is not a string" },
        { "unknown field", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "unknown field 'x'" },
        { "field twice", "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "'dtype' twice" },
        { "tensor twice", $"{Tensor("F32", "[1]", 0, 4)[..^1]},{Tensor("F32", "[1]", 4, 8)[1..]}", 8, "'a' is listed twice" },
        { "negative dimension", Tensor("F32", "[-1]", 0, 4), 4, "non-negative" },
        { "fraction as dimension", Tensor("F32", "[1.5]", 0, 4), 4, "non-negative" },
        { "dimension beyond 64 bits", Tensor("F32", "[99999999999999999999]", 0, 4), 4, "non-negative" },
        { "shape a number", Tensor("F32", "4", 0, 4), 4, "shape that is not a list" },
        { "shape overflows", Tensor("F32", "[4294967296,4294967296,4294967296]", 0, 4), 4, "cannot fill the 4 bytes" },
        { "shape overflows to the right size", Tensor("F32", "[4611686018427387905,4]", 0, 16), 16, "cannot fill the 16 bytes" },
        { "shape larger than data", Tensor("F32", "[2]", 0, 4), 4, "cannot fill the 4 bytes" },
        { "shape smaller than data", Tensor("F32", "[1]", 0, 8), 8, "cannot fill the 8 bytes" },
        { "half a byte", Tensor("F4", "[1]", 0, 1), 1, "cannot fill the 1 bytes" },
        { "end before begin", Tensor("F32", "[1]", 4, 0), 4, "do not lie in the 4 bytes" },
        { "end after the data", Tensor("F32", "[2]", 0, 8), 4, "do not lie in the 4 bytes" },
        { "one offset", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "do not lie" },
        { "gap at the start", Tensor("F32", "[1]", 4, 8), 8, "'a' leaves a gap" },
        { "gap between", Two(0, 4, 8, 12), 12, "'b' leaves a gap" },
        { "overlap", Two(0, 4, 0, 4), 4, "overlaps" },
        { "partial overlap", Two(0, 4, 2, 6), 6, "overlaps" },
        { "data left over", Tensor("F32", "[1]", 0, 4), 9, "5 bytes after the last tensor" },
    };

    [Theory]
    [MemberData(nameof(Lies))]
    public void LiesAreRefusedInOneSentence(string what, string header, int dataBytes, string expected)
    {
        using var folder = new TemporaryFolder();
        var path = folder["x.safetensors"];
        SafeTensorsWriter.WriteRaw(path, header, new byte[dataBytes]);

        var error = Assert.Throws<ModelException>(() => SafeTensorsFile.Open(path));
        output.WriteLine($"{what}: {error.Message}");
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        OneSentence.Check(error, path);
    }

    [Theory]
    [InlineData(0UL, "not valid JSON")]
    [InlineData(1000UL, "truncated")]
    [InlineData(ulong.MaxValue, "truncated")]
    [InlineData(1UL << 63, "truncated")]
    public void WrongHeaderLengthsAreRefused(ulong length, string expected)
    {
        using var folder = new TemporaryFolder();
        var path = folder["x.safetensors"];
        SafeTensorsWriter.WriteRaw(path, Tensor("F32", "[1]", 0, 4), new byte[4], length);

        var error = Assert.Throws<ModelException>(() => SafeTensorsFile.Open(path));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        OneSentence.Check(error, path);
    }

    [Fact]
    public void EveryTruncationIsRefused()
    {
        using var folder = new TemporaryFolder();
        SafeTensorsWriter.Write(folder["x.safetensors"], "F32", [("a", [2, 3], new float[6]), ("b", [4], new float[4])]);
        var whole = File.ReadAllBytes(folder["x.safetensors"]);
        for (var length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(folder["cut.safetensors"], whole[..length]);
            var error = Assert.Throws<ModelException>(() => SafeTensorsFile.Open(folder["cut.safetensors"]));
            OneSentence.Check(error, folder["cut.safetensors"]);
        }

        output.WriteLine($"{whole.Length} truncations tried");
    }

    [Fact]
    public void OtherTypesAreListedButNotRead()
    {
        using var folder = new TemporaryFolder();
        SafeTensorsWriter.WriteRaw(folder["x.safetensors"], Tensor("I64", "[1]", 0, 8), new byte[8]);
        using var file = SafeTensorsFile.Open(folder["x.safetensors"]);
        Assert.True(file.TryGet("a", out var tensor));
        var error = Assert.Throws<ModelException>(() => file.Read(tensor, 0, new float[1]));
        Assert.Contains("tensor 'a' is of type I64", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AMissingFileIsNamed()
    {
        var error = Assert.Throws<ModelException>(() => SafeTensorsFile.Open("/nowhere/x.safetensors"));
        OneSentence.Check(error, "/nowhere/x.safetensors");
    }

    private static string Tensor(string dataType, string shape, long begin, long end) =>
        $"{{\"a\":{{\"dtype\":\"{dataType}\",\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}}}";

    private static string Two(long begin1, long end1, long begin2, long end2) => new JsonObject
    {
        ["a"] = SafeTensorsWriter.Entry("F32", [1], begin1, end1),
        ["b"] = SafeTensorsWriter.Entry("F32", [1], begin2, end2),
    }.ToJsonString();
}
