using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime.Tensors;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>Attention in its forms, and the rotation of queries and keys.</summary>
internal static class AttentionCases
{
    private const int Heads = 16;
    private const int KeyValueHeads = 8;
    private const int HeadSize = 128;

    private static readonly int[] s_batches = [1, 4, 16];

    public static OpCase Prefill(int tokens) => new(
        "GroupQueryAttention",
        $"prefill of {tokens}, {Heads}/{KeyValueHeads} heads of {HeadSize}",
        "fp32",
        () => Grouped(tokens),
        [new OpRun(tokens, Flops(tokens, tokens / 2.0), Bytes(1, tokens, tokens), () => GroupedValues(1, tokens, tokens, tokens))]);

    public static OpCase Decode(int past) => new(
        "GroupQueryAttention",
        $"decode after {past}, {Heads}/{KeyValueHeads} heads of {HeadSize}",
        "fp32",
        () => Grouped(past + 1),
        [
            .. s_batches.Select(batch => new OpRun(
                batch, Flops(batch, past + 1), Bytes(batch, 1, past + 1), () => GroupedValues(batch, 1, past + 1, past + 1))),
        ]);

    public static OpCase HalfDecode(int past, int slots) => new(
        "GroupQueryAttention",
        $"decode after {past} of {slots}, {Heads}/{KeyValueHeads} heads of {HeadSize}",
        "fp16",
        () => Grouped(slots, TensorElementType.Float16),
        [
            .. s_batches.Select(batch => new OpRun(
                batch,
                Flops(batch, past + 1),
                Bytes(batch, 1, past + 1) / 2,
                () => GroupedValues(batch, 1, past + 1, slots, TensorElementType.Float16))),
        ]);

    private static byte[] Grouped(int maxLength, TensorElementType element = TensorElementType.Float)
    {
        DataType type = element == TensorElementType.Float16 ? DataType.Float16 : DataType.Float;
        return new NodeModel(NodeModel.Microsoft, "GroupQueryAttention")
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

    private static OpValues GroupedValues(int batch, int tokens, int total, int maxLength, TensorElementType type = TensorElementType.Float) => new OpValues()
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

    private static double Flops(double tokens, double keys) => 4.0 * tokens * keys * Heads * HeadSize;

    private static double Bytes(double batch, double tokens, double keys) =>
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

    /// <summary>MultiHeadAttention, keys and values of its own; <paramref name="past"/> is 0 in a prefill.</summary>
    public static OpCase MultiHead(int tokens, int past) => OfOneForm(
        "MultiHeadAttention",
        tokens,
        past,
        () => new NodeModel(NodeModel.Microsoft, "MultiHeadAttention").Attribute("num_heads", Heads).Attribute("unidirectional", 1),
        ["query", "key", "value", "", "", "", "past_key", "past_value"]);

    /// <summary>The Attention of op set 23.</summary>
    public static OpCase Onnx(int tokens, int past) => OfOneForm(
        "Attention",
        tokens,
        past,
        () => new NodeModel("", "Attention", opset: 23)
            .Attribute("q_num_heads", Heads).Attribute("kv_num_heads", Heads).Attribute("is_causal", 1),
        ["query", "key", "value", "", "past_key", "past_value"]);

    private static OpCase OfOneForm(string op, int tokens, int past, Func<NodeModel> node, string[] inputs)
    {
        const int Width = Heads * HeadSize;
        return new OpCase(
            op,
            past == 0 ? $"prefill of {tokens}, {Heads} heads of {HeadSize}" : $"decode after {past}, {Heads} heads of {HeadSize}",
            "fp32",
            Model,
            past == 0 ? [Run(1)] : [.. s_batches.Select(Run)]);

        byte[] Model()
        {
            NodeModel model = node();
            foreach (string input in past == 0 ? inputs[..3] : inputs)
            {
                _ = input.StartsWith("past", StringComparison.Ordinal) ? model.Input(input, DataType.Float, 0, Heads, 0, HeadSize)
                    : input.Length > 0 ? model.Input(input, DataType.Float, 0, 0, Width)
                    : model.Input("");
            }

            model.Output("y", DataType.Float, 0, 0, Width);
            return (past == 0 ? model : model.Output("present_key", DataType.Float, 0, Heads, 0, HeadSize)
                .Output("present_value", DataType.Float, 0, Heads, 0, HeadSize)).Build();
        }

        OpRun Run(int batch)
        {
            int total = tokens + past;
            double keys = past == 0 ? tokens / 2.0 : total;
            return new OpRun(
                past == 0 ? tokens : batch,
                Flops((double)batch * tokens, keys),
                4.0 * batch * Width * ((2.0 * tokens) + (2.0 * total) + (past == 0 ? 0 : 2.0 * total)),
                Values);

            OpValues Values()
            {
                OpValues values = new OpValues()
                    .Input("query", batch, tokens, Width).Input("key", batch, tokens, Width).Input("value", batch, tokens, Width)
                    .Output("y", batch, tokens, Width);
                return past == 0 ? values
                    : values.Input("past_key", batch, Heads, past, HeadSize).Input("past_value", batch, Heads, past, HeadSize)
                        .Output("present_key", batch, Heads, total, HeadSize).Output("present_value", batch, Heads, total, HeadSize);
            }
        }
    }

    /// <summary>com.microsoft.Attention: the projections too.</summary>
    public static OpCase Packed(int width, int[] rows) => new(
        "Attention (com.microsoft)",
        $"width {width}, heads of {HeadSize / 2}",
        "fp32",
        () => new NodeModel(NodeModel.Microsoft, "Attention")
            .Input("x", DataType.Float, 0, 0, width)
            .Weight<float>("weights", DataType.Float, RandomNumbers.Normals(3L * width * width, 0.02f), width, 3 * width)
            .Weight<float>("bias", DataType.Float, RandomNumbers.Normals(3 * width, 1), 3 * width)
            .Output("y", DataType.Float, 0, 0, width)
            .Attribute("num_heads", width / (HeadSize / 2)).Attribute("unidirectional", 1)
            .Build(),
        [
            .. rows.Select(m => new OpRun(
                m,
                (6.0 * m * width * width) + (2.0 * m * m * width),
                4.0 * ((3.0 * width * width) + (2.0 * m * width)),
                () => new OpValues().Input("x", 1, m, width).Output("y", 1, m, width))),
        ]);

    /// <summary>RotaryEmbedding of both domains, which order their inputs differently.</summary>
    public static OpCase Rotation(bool isOnnx, int[] rows)
    {
        const int Width = Heads * HeadSize;
        const int Positions = 1024;
        return new OpCase(
            isOnnx ? "RotaryEmbedding" : "RotaryEmbedding (com.microsoft)", $"{Heads} heads of {HeadSize}", "fp32", Model, [.. rows.Select(Run)]);

        byte[] Model()
        {
            NodeModel node = isOnnx ? new NodeModel("", "RotaryEmbedding", opset: 23) : new(NodeModel.Microsoft, "RotaryEmbedding");
            node.Attribute("num_heads", Heads).Input("x", DataType.Float, 0, 0, Width);
            if (!isOnnx)
            {
                node.Input("positions", DataType.Int64, 0, 0);
            }

            node.Weight<byte>("cos", DataType.Float, Rotary(Positions, MathF.Cos, TensorElementType.Float), Positions, HeadSize / 2)
                .Weight<byte>("sin", DataType.Float, Rotary(Positions, MathF.Sin, TensorElementType.Float), Positions, HeadSize / 2);
            if (isOnnx)
            {
                node.Input("positions", DataType.Int64, 0, 0);
            }

            return node.Output("y", DataType.Float, 0, 0, Width).Build();
        }

        static OpRun Run(int m) => new(
            m,
            3.0 * m * Width,
            8.0 * m * Width,
            () => new OpValues().Input("x", 1, m, Width)
                .Input("positions", Enumerable.Range(0, m).Select(position => (long)position).ToArray(), 1, m)
                .Output("y", 1, m, Width));
    }
}
