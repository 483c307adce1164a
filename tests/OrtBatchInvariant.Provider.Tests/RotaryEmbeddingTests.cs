using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>RotaryEmbedding of com.microsoft, positions second, and of opset 23, caches second.</summary>
public sealed class RotaryEmbeddingTests(ITestOutputHelper output)
{
    private const int Tokens = 5;
    private const int Heads = 3;
    private const int HeadSize = 24;
    private const int Positions = 40;

    private static readonly Operand s_flat = Rows("x", [1, Tokens, Heads * HeadSize]);
    private static readonly Operand s_heads = Rows("x", [1, Heads, Tokens, HeadSize]);
    private static readonly Operand s_positions = EachRow(
        "position_ids", random => Tensor.Of([1, Tokens], [.. Enumerable.Range(0, Tokens).Select(_ => random.NextInt64(Positions))]));

    private static readonly Dictionary<string, OpCase> s_cases = new()
    {
        ["com.microsoft, rank 3"] = Microsoft(s_flat, s_positions, HeadSize),
        ["com.microsoft, rank 3, interleaved"] = Microsoft(s_flat, s_positions, HeadSize, ("interleaved", 1)),
        ["com.microsoft, rank 3, part of the head"] = Microsoft(s_flat, s_positions, 16, ("num_heads", Heads), ("rotary_embedding_dim", 16)),
        ["com.microsoft, rank 4"] = Microsoft(s_heads, s_positions, HeadSize),
        ["com.microsoft, rank 4, part of the head, interleaved"] =
            Microsoft(s_heads, s_positions, 16, ("num_heads", Heads), ("rotary_embedding_dim", 16), ("interleaved", 1)),
        ["com.microsoft, one offset for all rows"] = Microsoft(s_flat, Given("position_ids", Tensor.Of([1], 7L)), HeadSize),
        ["com.microsoft, is_packed_batching"] = Microsoft(s_flat, s_positions, HeadSize, ("is_packed_batching", 1)),
        ["opset 23, rank 3"] = Onnx(s_flat, s_positions, HeadSize, ("num_heads", Heads)),
        ["opset 23, rank 3, part of the head"] = Onnx(s_flat, s_positions, 16, ("num_heads", Heads), ("rotary_embedding_dim", 16)),
        ["opset 23, rank 4"] = Onnx(s_heads, s_positions, HeadSize),
        ["opset 23, rank 4, interleaved"] = Onnx(s_heads, s_positions, HeadSize, ("interleaved", 1)),
        ["opset 23, rank 4, part of the head, interleaved"] = Onnx(s_heads, s_positions, 16, ("rotary_embedding_dim", 16), ("interleaved", 1)),
        ["opset 23, caches of every token"] = Direct(s_heads),
        ["opset 23, caches of every token, rank 3"] = Direct(s_flat, ("num_heads", Heads)),
    };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Op(string name) => Checks.All(s_cases[name], output);

    internal static OpCase Microsoft(Operand x, Operand positions, int rotaryDim, params (string, object)[] attributes) =>
        new("RotaryEmbedding", "elementwise.f32.v2", x, positions, Weight("cos", Positions, rotaryDim / 2), Weight("sin", Positions, rotaryDim / 2))
        {
            Domain = "com.microsoft",
            Attributes = attributes,
            CustomOp = "MicrosoftRotaryEmbedding",
        };

    internal static OpCase MicrosoftFlat(params (string, object)[] attributes) => Microsoft(s_flat, s_positions, HeadSize, attributes);

    private static OpCase Onnx(Operand x, Operand positions, int rotaryDim, params (string, object)[] attributes) =>
        new("RotaryEmbedding", "elementwise.f32.v2", x, Weight("cos", Positions, rotaryDim / 2), Weight("sin", Positions, rotaryDim / 2), positions)
        {
            Opset = 23,
            Attributes = attributes,
        };

    private static OpCase Direct(Operand x, params (string, object)[] attributes) =>
        new("RotaryEmbedding", "elementwise.f32.v2", x, Rows("cos", [1, Tokens, HeadSize / 2]), Rows("sin", [1, Tokens, HeadSize / 2]))
        {
            Opset = 23,
            Attributes = attributes,
        };
}
