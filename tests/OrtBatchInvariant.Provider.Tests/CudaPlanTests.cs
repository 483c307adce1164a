using OrtBatchInvariant.Conversion;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Models.Onnx;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>
/// What the CUDA provider takes of the ops whose kernels are not those of GenAI's decoder graphs: planned, which needs no GPU but a library
/// that was built with CUDA.
/// </summary>
public sealed class CudaPlanTests(ITestOutputHelper output)
{
    private static readonly Dictionary<string, (OpCase Op, string Outcome)> s_cases = new()
    {
        ["MoE"] = (MoeTests.Plain(("k", 2), ("activation_type", "silu")), "moe.f32.cuda.v1"),
        ["MoE, fp16"] = (HalfTests.Halved(MoeTests.Plain(("k", 2), ("activation_type", "swiglu"), ("swiglu_fusion", 1))), "moe.tc16.v1"),
        ["MoE, sparse mixer"] = (MoeTests.Plain(("k", 2), ("use_sparse_mixer", 1)), "the attribute use_sparse_mixer is not served"),
        ["QMoE"] = (MoeTests.Quantized(4, 32, true, [("k", 2)]), "moe.nbits.f32.cuda.v1"),
        ["QMoE, one scale a row"] = (MoeTests.Quantized(8, 0, true, [("k", 2)]), "moe.nbits.f32.cuda.v1"),
        ["QMoE, fp16"] = (HalfTests.Halved(MoeTests.Quantized(4, 32, false, [("k", 2), ("accuracy_level", 4)])), "moe.nbits.tc16.v1"),
        ["QMoE, fp4"] = (MoeTests.Quantized(4, 32, false, [("quant_type", "fp4")]), "quant_type 'fp4' is not served"),
        ["MultiHeadAttention"] = (AttentionTests.MultiHead(AttentionTests.Qkv(7)), "attention.f32.cuda.v1"),
        ["MultiHeadAttention, fp16, other value size"] = (HalfTests.Halved(AttentionTests.MultiHead(AttentionTests.Qkv(7, 10))), "attention.tc16.v2"),
        ["MultiHeadAttention, scores"] = (
            AttentionTests.MultiHead(AttentionTests.Qkv(7)) with { Outputs = [new("y"), new("present_key"), new("present_value"), new("scores")] },
            "the output qk is not served on CUDA"),
        ["MultiHeadAttention, large heads"] = (
            AttentionTests.MultiHead([Rows("query", [1, 7, 1056]), Rows("key", [1, 7, 1056]), Rows("value", [1, 7, 1056])]),
            "head size 264 is not served on CUDA, only up to 256"),
        ["Attention of com.microsoft"] = (HalfTests.Halved(AttentionTests.PackedQkv([], ("unidirectional", 1))), "attention.tc16.v2"),
        ["Attention, opset 23"] = (AttentionTests.Onnx(AttentionTests.ByHead(2, 7), ("is_causal", 1)), "attention.f32.cuda.v1"),
        ["Attention, opset 24, fp16"] = (HalfTests.Halved(AttentionTests.Onnx([.. AttentionTests.ByHead(2, 7), Rows("mask", [1, 4, 7, 7])])) with { Opset = 24 }, "attention.tc16.v2"),
        ["Attention, scores"] = (
            AttentionTests.Onnx(AttentionTests.ByHead(2, 7)) with { Outputs = [new("y"), null, null, new("scores")] },
            "the output qk_matmul_output is not served on CUDA"),
        ["EmbedLayerNormalization"] = (EmbedLayerNormTests.Case(segments: true, positions: true, mask: true), "norm.cuda.v1"),
    };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void IsServedOrRefusedByName(string name)
    {
        (OpCase op, string outcome) = s_cases[name];
        byte[] model = op.Model(op.Values(Checks.Seeded(output), 2));
        ModelCoverage coverage;
        try
        {
            coverage = ModelCoverage.Of(new OnnxModel(ModelProto.Parser.ParseFrom(model)), onCuda: true);
        }
        catch (ModelException exception) when (exception.Message.Contains("no CUDA kernels", StringComparison.Ordinal))
        {
            output.WriteLine(exception.Message);
            return;
        }

        CoverageNode node = Assert.Single(coverage.Nodes).Coverage;
        Assert.Equal("cuda", coverage.Device);
        if (outcome.Contains(' ', StringComparison.Ordinal))
        {
            Assert.Equal((ServedBy.StockVarying, outcome), (node.ServedBy, node.Reason));
            return;
        }

        Assert.Equal((ServedBy.BatchInvariant, outcome), (node.ServedBy, node.Contract));
        if (op.CustomOp is null)
        {
            return;
        }

        // The custom-op library has the same ops.
        ModelCoverage custom = ModelCoverage.Of(new OnnxModel(ModelProto.Parser.ParseFrom(op.Model(op.Values(Checks.Seeded(output), 2), custom: true))), onCuda: true);
        Assert.Equal((ServedBy.BatchInvariant, outcome), (custom.Nodes[0].Coverage.ServedBy, custom.Nodes[0].Coverage.Contract));
    }
}
