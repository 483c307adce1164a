using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime.Tensors;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>The operators of decoder models, in the shapes that matter.</summary>
internal static class OpCases
{
    private const string MicrosoftDomain = "com.microsoft";
    private const int BlockSize = 32;
    private const int Heads = 16;
    private const int KeyValueHeads = 8;
    private const int HeadSize = 128;

    private static readonly int[] s_rows = [1, 2, 4, 8, 16, 64, 256];
    private static readonly int[] s_batches = [1, 4, 16];
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
            .. weights.Select(shape => MatMul(shape.K, shape.N, rows)),
            .. weights.Select(shape => MatMulNBits(shape.K, shape.N, accuracyLevel: 0, rows)),
            .. weights.Select(shape => MatMulNBits(shape.K, shape.N, accuracyLevel: 4, rows)),
            .. prompts.Select(AttentionPrefill),
            .. pasts.Select(AttentionDecode),
            AttentionHalfDecode(past: 1024, slots: 4096),
            .. new[] { 1024, 4096 }.Select(Norm),
            .. new[] { 1024, 4096 }.Select(SkipNorm),
            .. new[] { 1024, 32768 }.Select(width => Elementwise("Softmax", width)),
            .. new[] { 1024, 32768 }.Select(width => Elementwise("Sigmoid", width)),
        ];
    }

    private static OpCase MatMul(int k, int n, int[] rows) => new(
        "MatMul",
        $"K={k} N={n}",
        "fp32",
        () => new SingleNodeModel("", "MatMul")
            .Input("a", DataType.Float, 0, k)
            .Weight<float>("b", DataType.Float, RandomNumbers.Normals((long)k * n, 0.02f), k, n)
            .Output("y", DataType.Float, 0, n)
            .Build(),
        [
            .. rows.Select(m => new OpRun(
                m, 2.0 * m * k * n, 4.0 * (((double)k * n) + (m * (double)(k + n))), () => new OpValues().Input("a", m, k).Output("y", m, n))),
        ]);

    private static OpCase MatMulNBits(int k, int n, int accuracyLevel, int[] rows)
    {
        int blocks = k / BlockSize;
        long weightBytes = (long)k * n / 2;
        return new OpCase(
            "MatMulNBits",
            $"K={k} N={n}",
            $"int4, accuracy_level {accuracyLevel}",
            () => new SingleNodeModel(MicrosoftDomain, "MatMulNBits")
                .Input("a", DataType.Float, 0, k)
                .Weight<byte>("b", DataType.Uint8, RandomNumbers.Bytes(weightBytes), n, blocks, BlockSize / 2)
                .Weight<float>("scales", DataType.Float, RandomNumbers.Normals((long)n * blocks, 0.02f), (long)n * blocks)
                .Output("y", DataType.Float, 0, n)
                .Attribute("K", k).Attribute("N", n).Attribute("bits", 4).Attribute("block_size", BlockSize)
                .Attribute("accuracy_level", accuracyLevel)
                .Build(),
            [
                .. rows.Select(m => new OpRun(
                    m,
                    2.0 * m * k * n,
                    weightBytes + (4.0 * n * blocks) + (4.0 * m * (k + n)),
                    () => new OpValues().Input("a", m, k).Output("y", m, n))),
            ]);
    }

    private static OpCase AttentionPrefill(int tokens) => new(
        "GroupQueryAttention",
        $"prefill of {tokens}, {Heads}/{KeyValueHeads} heads of {HeadSize}",
        "fp32",
        () => Attention(tokens),
        [new OpRun(tokens, AttentionFlops(tokens, tokens / 2.0), AttentionBytes(1, tokens, tokens), () => AttentionValues(1, tokens, tokens, tokens))]);

    private static OpCase AttentionDecode(int past) => new(
        "GroupQueryAttention",
        $"decode after {past}, {Heads}/{KeyValueHeads} heads of {HeadSize}",
        "fp32",
        () => Attention(past + 1),
        [
            .. s_batches.Select(batch => new OpRun(
                batch, AttentionFlops(batch, past + 1), AttentionBytes(batch, 1, past + 1), () => AttentionValues(batch, 1, past + 1, past + 1))),
        ]);

    private static OpCase AttentionHalfDecode(int past, int slots) => new(
        "GroupQueryAttention",
        $"decode after {past} of {slots}, {Heads}/{KeyValueHeads} heads of {HeadSize}",
        "fp16",
        () => Attention(slots, TensorElementType.Float16),
        [
            .. s_batches.Select(batch => new OpRun(
                batch,
                AttentionFlops(batch, past + 1),
                AttentionBytes(batch, 1, past + 1) / 2,
                () => AttentionValues(batch, 1, past + 1, slots, TensorElementType.Float16))),
        ]);

    private static byte[] Attention(int maxLength, TensorElementType element = TensorElementType.Float)
    {
        DataType type = element == TensorElementType.Float16 ? DataType.Float16 : DataType.Float;
        return new SingleNodeModel(MicrosoftDomain, "GroupQueryAttention")
            .Input("q", type, 0, 0, Heads * HeadSize)
            .Input("k", type, 0, 0, KeyValueHeads * HeadSize)
            .Input("v", type, 0, 0, KeyValueHeads * HeadSize)
            .Input("past_key", type, 0, KeyValueHeads, 0, HeadSize)
            .Input("past_value", type, 0, KeyValueHeads, 0, HeadSize)
            .Input("seqlens_k", DataType.Int32, 0)
            .Input("total_sequence_length", DataType.Int32, 1)
            .Weight<byte>("cos", type, Rotary(maxLength, MathF.Cos, element), maxLength, HeadSize / 2)
            .Weight<byte>("sin", type, Rotary(maxLength, MathF.Sin, element), maxLength, HeadSize / 2)
            .Output("y", type, 0, 0, Heads * HeadSize)
            .Output("present_key", type, 0, KeyValueHeads, 0, HeadSize)
            .Output("present_value", type, 0, KeyValueHeads, 0, HeadSize)
            .Attribute("num_heads", Heads).Attribute("kv_num_heads", KeyValueHeads).Attribute("do_rotary", 1)
            .Build();
    }

    private static OpValues AttentionValues(int batch, int tokens, int total, int maxLength, TensorElementType type = TensorElementType.Float) => new OpValues()
        .Input("q", type, batch, tokens, Heads * HeadSize)
        .Input("k", type, batch, tokens, KeyValueHeads * HeadSize)
        .Input("v", type, batch, tokens, KeyValueHeads * HeadSize)
        .Input("past_key", type, batch, KeyValueHeads, maxLength, HeadSize)
        .Input("past_value", type, batch, KeyValueHeads, maxLength, HeadSize)
        .Input("seqlens_k", Enumerable.Repeat(total - 1, batch).ToArray(), batch)
        .Input("total_sequence_length", new[] { total }, 1)
        .Output("y", type, batch, tokens, Heads * HeadSize)
        .OutputInPlace("present_key", "past_key")
        .OutputInPlace("present_value", "past_value");

    private static double AttentionFlops(double tokens, double keys) => 4.0 * tokens * keys * Heads * HeadSize;

    private static double AttentionBytes(double batch, double tokens, double keys) =>
        4.0 * batch * HeadSize * ((2 * keys * KeyValueHeads) + (2 * tokens * (Heads + KeyValueHeads)));

    private static byte[] Rotary(int positions, Func<float, float> function, TensorElementType type)
    {
        float[] values =
        [
            .. from position in Enumerable.Range(0, positions)
               from pair in Enumerable.Range(0, HeadSize / 2)
               select function(position * MathF.Pow(10000, -2f * pair / HeadSize)),
        ];
        return type == TensorElementType.Float16
            ? MemoryMarshal.AsBytes<Half>(values.Select(value => (Half)value).ToArray()).ToArray()
            : MemoryMarshal.AsBytes<float>(values).ToArray();
    }

    private static OpCase Norm(int width) => new(
        "SimplifiedLayerNormalization",
        $"width {width}",
        "fp32",
        () => new SingleNodeModel("", "SimplifiedLayerNormalization")
            .Input("x", DataType.Float, 0, width)
            .Weight<float>("scale", DataType.Float, RandomNumbers.Normals(width, 1), width)
            .Output("y", DataType.Float, 0, width)
            .Attribute("axis", -1).Attribute("epsilon", 1e-6f).Attribute("stash_type", 1)
            .Build(),
        [.. s_rows.Select(m => new OpRun(m, 4.0 * m * width, 8.0 * m * width, () => new OpValues().Input("x", m, width).Output("y", m, width)))]);

    private static OpCase SkipNorm(int width) => new(
        "SkipSimplifiedLayerNormalization",
        $"width {width}",
        "fp32",
        () => new SingleNodeModel(MicrosoftDomain, "SkipSimplifiedLayerNormalization")
            .Input("x", DataType.Float, 0, width)
            .Input("skip", DataType.Float, 0, width)
            .Weight<float>("gamma", DataType.Float, RandomNumbers.Normals(width, 1), width)
            .Output("y", DataType.Float, 0, width).Output("").Output("").Output("sum", DataType.Float, 0, width)
            .Attribute("epsilon", 1e-6f)
            .Build(),
        [
            .. s_rows.Select(m => new OpRun(
                m, 5.0 * m * width, 16.0 * m * width,
                () => new OpValues().Input("x", m, width).Input("skip", m, width).Output("y", m, width).Output("sum", m, width))),
        ]);

    private static OpCase Elementwise(string op, int width) => new(
        op,
        $"width {width}",
        "fp32",
        () => new SingleNodeModel("", op).Input("x", DataType.Float, 0, width).Output("y", DataType.Float, 0, width).Build(),
        [.. s_rows.Select(m => new OpRun(m, 4.0 * m * width, 8.0 * m * width, () => new OpValues().Input("x", m, width).Output("y", m, width)))]);
}
