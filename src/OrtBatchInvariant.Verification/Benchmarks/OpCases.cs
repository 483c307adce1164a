using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>The operators of decoder models, in the shapes that matter.</summary>
internal static class OpCases
{
    private static readonly int[] s_rows = [1, 2, 4, 8, 16, 64, 256];
    private static readonly int[] s_fewRows = [1, 16, 256];
    private static readonly (int K, int N)[] s_weights = [(512, 512), (1024, 1024), (1024, 3072), (3072, 1024), (2048, 2048), (4096, 4096)];
    private static readonly (int K, int N)[] s_largeWeights = [(4096, 14336), (14336, 4096)];

    /// <param name="large">Whether to add the largest weights, 1,024 rows and long contexts: gigabytes, minutes of time.</param>
    public static IEnumerable<OpCase> All(bool large)
    {
        (int K, int N)[] weights = large ? [.. s_weights, .. s_largeWeights] : s_weights;
        int[] rows = large ? [.. s_rows, 1024] : s_rows;
        int[] prompts = large ? [64, 128, 256, 512, 1024, 4096] : [64, 256, 1024];
        int[] pasts = large ? [128, 1024, 8192] : [128, 1024];
        return
        [
            .. weights.Select(shape => ProductCases.MatMul(shape.K, shape.N, rows)),
            .. weights.Select(shape => ProductCases.MatMulNBits(shape.K, shape.N, bits: 4, accuracyLevel: 0, rows)),
            .. weights.Select(shape => ProductCases.MatMulNBits(shape.K, shape.N, bits: 4, accuracyLevel: 4, rows)),
            .. from bits in new[] { 2, 8 }
               from accuracyLevel in new[] { 0, 4 }
               select ProductCases.MatMulNBits(1024, 3072, bits, accuracyLevel, s_fewRows),
            ProductCases.Gemm(1024, 3072, s_fewRows),
            ProductCases.FusedMatMul(1024, 3072, s_fewRows),
            ExpertCases.Floats(s_fewRows),
            ExpertCases.Quantized(s_fewRows),
            .. prompts.Select(AttentionCases.Prefill),
            .. pasts.Select(AttentionCases.Decode),
            AttentionCases.HalfDecode(past: 1024, slots: 4096),
            AttentionCases.MultiHead(tokens: 256, past: 0),
            AttentionCases.MultiHead(tokens: 1, past: 1024),
            AttentionCases.Onnx(tokens: 256, past: 0),
            AttentionCases.Onnx(tokens: 1, past: 1024),
            AttentionCases.Packed(width: 768, s_fewRows),
            AttentionCases.Rotation(isOnnx: false, s_fewRows),
            AttentionCases.Rotation(isOnnx: true, s_fewRows),
            .. new[] { 1024, 4096 }.Select(width => RowCases.RmsNorm(width, s_rows)),
            .. new[] { 1024, 4096 }.Select(width => RowCases.SkipRmsNorm(width, s_rows)),
            RowCases.OnnxRmsNorm(1024, s_fewRows),
            RowCases.LayerNorm(1024, s_fewRows),
            RowCases.SkipLayerNorm(1024, s_fewRows),
            RowCases.EmbedLayerNorm(1024, s_fewRows),
            .. new[] { 1024, 32768 }.Select(width => RowCases.Unary("", "Softmax", width, s_rows)),
            RowCases.Unary("", "LogSoftmax", 32768, s_fewRows),
            .. new[] { 1024, 32768 }.Select(width => RowCases.Unary("", "Sigmoid", width, s_rows)),
            .. new[] { "Tanh", "Erf", "Exp", "Gelu" }.Select(op => RowCases.Unary("", op, 4096, s_fewRows)),
            .. new[] { "Gelu", "QuickGelu", "FastGelu" }.Select(op => RowCases.Unary(NodeModel.Microsoft, op, 4096, s_fewRows)),
            RowCases.BiasGelu(4096, s_fewRows),
            RowCases.GatedSilu(4096, s_fewRows),
            RowCases.Pow(4096, exponent: 2, s_fewRows),
            RowCases.Pow(4096, exponent: 0.3f, s_fewRows),
            .. new[] { "ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2" }.Select(op => RowCases.Reduction(op, 4096, s_fewRows)),
        ];
    }
}
