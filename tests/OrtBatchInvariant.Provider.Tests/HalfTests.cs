using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>fp16 tensors on the CPU: widened exactly, computed as fp32, rounded once.</summary>
public sealed class HalfTests(ITestOutputHelper output)
{
    private static readonly Dictionary<string, OpCase> s_cases = new()
    {
        ["MatMul"] = Halved(MatMulTests.MatMul(Rows("a", [1, 40]), Weight("b", 40, 24))),
        ["MatMul, computed"] = Halved(MatMulTests.MatMul(Rows("a", [1, 3, 40]), Shared("b", 40, 24))),
        ["Gemm"] = Halved(MatMulTests.Gemm(Rows("a", [1, 40]), Weight("b", 40, 24), Weight("c", 24), ("alpha", 0.5f))),
        ["MatMulNBits"] = Halved(MatMulNBitsTests.Case(160, 72, 4, 0, MatMulNBitsTests.Zeros.Packed, true, 32)),
        ["MatMulNBits, float zero points"] = Halved(MatMulNBitsTests.Case(160, 72, 4, 0, MatMulNBitsTests.Zeros.Float, true, 32)),
        ["MatMulNBits, int8 activations"] = Halved(MatMulNBitsTests.Case(160, 72, 4, 4, MatMulNBitsTests.Zeros.None, false, 32), 2e-2),
        ["SimplifiedLayerNormalization"] = Halved(NormTests.Norm("SimplifiedLayerNormalization", 1, Rows("x", [1, 96]), Weight("scale", 96), null)),
        ["RMSNormalization"] = Halved(NormTests.Norm("RMSNormalization", 1, Rows("x", [1, 96]), Weight("scale", 96), null) with { Opset = 23 }),
        ["LayerNormalization"] = Halved(NormTests.Norm("LayerNormalization", 1, Rows("x", [1, 96]), Weight("scale", 96), Weight("bias", 96))),
        ["SkipSimplifiedLayerNormalization"] =
            Halved(NormTests.Skip("SkipSimplifiedLayerNormalization", ["y"], Rows("x", [1, 96]), Rows("skip", [1, 96]), Weight("gamma", 96))),

        // Stock takes one row only where a past meets several tokens.
        ["GroupQueryAttention, chunk"] = Halved(GroupQueryAttentionTests.Case(7, 7)) with { StockOutputs = 0 },
        ["GroupQueryAttention, no past"] = Halved(GroupQueryAttentionTests.Case(7, 0)) with { StockOutputs = 0 },
        ["GroupQueryAttention, decode"] = Halved(GroupQueryAttentionTests.Case(1, 8)),
        ["GroupQueryAttention, chunk, rotary"] = Halved(GroupQueryAttentionTests.Case(7, 7, rotary: true)) with { StockOutputs = 0 },
        ["MultiHeadAttention"] = Halved(AttentionTests.MultiHead(AttentionTests.Qkv(7))),
        ["Attention"] = Halved(AttentionTests.Onnx([.. AttentionTests.ByHead(2, 7), Rows("mask", [1, 4, 7, 7])], ("is_causal", 1))),
        ["Attention of com.microsoft"] = Halved(AttentionTests.PackedQkv([], ("unidirectional", 1))),
        ["RotaryEmbedding of com.microsoft"] = Halved(RotaryEmbeddingTests.MicrosoftFlat()),
        ["Softmax"] = Halved(new("Softmax", "softmax.f32.v1", Rows("x", [1, 50]))),
        ["Sigmoid"] = Halved(new("Sigmoid", "elementwise.f32.v2", Rows("x", [1, 50], amplitude: 8))),
        ["Pow"] = Halved(PowTests.Case(1.5f)) with { StockOutputs = 0 },
        ["QMoE"] = Halved(MoeTests.Quantized(4, 32, true, [("k", 2), ("activation_type", "silu")])),
        ["MoE"] = Halved(MoeTests.Plain(("k", 2), ("activation_type", "silu"))) with { StockOutputs = 0 },
    };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Op(string name) => Checks.All(s_cases[name], output);

    /// <summary>All but those that round keys and values before they attend to them, as a cache would.</summary>
    public static TheoryData<string> RoundedOnceCases => [.. s_cases.Keys.Except(["Attention of com.microsoft", "GroupQueryAttention, chunk, rotary"])];

    /// <summary>The bytes are those of the fp32 op over the same values, rounded once.</summary>
    [Theory]
    [MemberData(nameof(RoundedOnceCases))]
    public void HasTheBytesOfFloatRoundedOnce(string name)
    {
        OpCase half = s_cases[name];
        OpCase single = half with
        {
            Inputs = [.. half.Inputs.Select(input => input is null ? null : input with { Make = (random, rows) => input.Make(random, rows).ToFloat() })],
            Outputs = [.. half.Outputs.Select(result => result is null ? null : result with { Type = TensorElementType.Float })],
        };
        Random random = Checks.Seeded(output);
        Tensor[] values = half.Values(random, half.IsRowWise ? 3 : 1);
        Tensor[] wide = [.. values.Select(value => value.ToFloat())];
        using InferenceSession ours = Sessions.Ours(half.Model(values));
        using InferenceSession oursAsFloat = Sessions.Ours(single.Model(wide));
        Tensor[] rounded = [.. Sessions.Run(oursAsFloat, single.Feeds(wide), single.OutputNames)
            .Zip(half.Outputs.OfType<Result>(), (tensor, result) => result.Type == TensorElementType.Float16 ? tensor.ToHalf() : tensor)];
        Checks.Same(rounded, Sessions.Run(ours, half.Feeds(values), half.OutputNames)).ExpectNone(output, "fp16 against fp32 rounded");
    }

    internal static OpCase Halved(OpCase op, double tolerance = 4e-3) => op with
    {
        Inputs = [.. op.Inputs.Select(input => input is null ? null : input with { Make = (random, rows) => input.Make(random, rows).ToHalf() })],
        Outputs = [.. op.Outputs.Select(result => result is null ? null : result with { Type = TensorElementType.Float16 })],
        Tolerance = tolerance,
    };
}
