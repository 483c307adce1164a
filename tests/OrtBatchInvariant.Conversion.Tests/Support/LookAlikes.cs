using Google.Protobuf;
using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Models.Onnx;
using static OrtBatchInvariant.Conversion.Tests.Support.Graphs;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Conversion.Tests.Support;

/// <summary>Small models built like the test models of onnxruntime-genai, none of which is in this repository.</summary>
internal static class LookAlikes
{
    private const int Vocabulary = 50;
    private const int Hidden = 24;
    private const int Heads = 4;

    /// <summary>Writes them into a folder.</summary>
    /// <returns>The folder.</returns>
    internal static string Write(string folder)
    {
        HfConfig llama = KnownShapes.Get("llama3.2-1b") with
        {
            HiddenSize = 64, IntermediateSize = 96, LayerCount = 2, HeadCount = 4, KeyValueHeadCount = 2, HeadSize = 16, VocabularySize = Vocabulary, ContextLength = 64,
        };
        ModelExporter.ExportRandom(llama, Path.Combine(folder, "llama-fp32"), new ExportOptions { Precision = ExportPrecision.Fp32 });
        ModelExporter.ExportRandom(llama, Path.Combine(folder, "llama-fp16"), new ExportOptions { Precision = ExportPrecision.Fp16, Target = ExportTarget.Cuda });
        ModelExporter.ExportRandom(llama, Path.Combine(folder, "llama-int4"), new ExportOptions { Precision = ExportPrecision.Int4, AccuracyLevel = 4 });
        Save(folder, "gpt2", Gpt2(), opset: 11);
        Save(folder, "engine-dummy", Constant(), opset: 14);
        Save(folder, "vision-dummy", PassThrough(), opset: 17);
        Save(folder, "multimodal-text", Padded(), opset: 17);
        Save(folder, "marian-decoder", Scattered(), opset: 14);
        return folder;
    }

    /// <summary>GPT-2 as ONNX Runtime's old converter writes it: embeddings and their norm in one node, packed attention with one past.</summary>
    private static GraphProto Gpt2()
    {
        var random = new Random(6);
        GraphProto graph = Graph(
            "gpt2",
            [
                Value("input_ids", DataType.Int64, "batch_size", "seq_len"), Value("position_ids", DataType.Int64, "batch_size", "seq_len"),
                Value("attention_mask", DataType.Int64, "batch_size", "total_seq_len"), Value("past_0", DataType.Float, 2, "batch_size", Heads, "past_seq_len", Hidden / Heads),
            ],
            [Value("logits", DataType.Float, "batch_size", "seq_len", Vocabulary), Value("present_0", DataType.Float, 2, "batch_size", Heads, "total_seq_len", Hidden / Heads)],
            Node("ids", "Cast", ["input_ids"], ["ids32"], ("to", (int)DataType.Int32)),
            Node("places", "Cast", ["position_ids"], ["places32"], ("to", (int)DataType.Int32)),
            Node("mask", "Cast", ["attention_mask"], ["mask32"], ("to", (int)DataType.Int32)),
            Node("embed", "com.microsoft:EmbedLayerNormalization", ["ids32", "", "wte", "wpe", "", "g0", "b0", "", "places32"], ["x0", "", "x0_sum"], ("epsilon", 1e-5f)),
            Node("attention", "com.microsoft:Attention", ["x0", "w_qkv", "b_qkv", "mask32", "past_0"], ["a0", "present_0"], ("num_heads", Heads), ("unidirectional", 1)),
            Node("projection", "MatMul", ["a0", "w_out"], ["p0"]),
            Node("norm1", "com.microsoft:SkipLayerNormalization", ["p0", "x0_sum", "g1", "b1", "b_out"], ["x1", "", "", "x1_sum"], ("epsilon", 1e-5f)),
            Node("up", "MatMul", ["x1", "w_up"], ["u0"]),
            Node("gelu", "com.microsoft:FastGelu", ["u0", "b_up"], ["u1"]),
            Node("down", "MatMul", ["u1", "w_down"], ["d0"]),
            Node("norm2", "com.microsoft:SkipLayerNormalization", ["d0", "x1_sum", "g2", "b2", "b_down"], ["x2"], ("epsilon", 1e-5f)),
            Node("head", "MatMul", ["x2", "w_head"], ["logits"]));
        foreach ((string name, long[] dims) in (((string, long[])[])
        [
            ("wte", [Vocabulary, Hidden]), ("wpe", [64, Hidden]), ("g0", [Hidden]), ("b0", [Hidden]), ("w_qkv", [Hidden, 3 * Hidden]), ("b_qkv", [3 * Hidden]),
            ("w_out", [Hidden, Hidden]), ("b_out", [Hidden]), ("g1", [Hidden]), ("b1", [Hidden]), ("w_up", [Hidden, 4 * Hidden]), ("b_up", [4 * Hidden]),
            ("w_down", [4 * Hidden, Hidden]), ("b_down", [Hidden]), ("g2", [Hidden]), ("b2", [Hidden]), ("w_head", [Hidden, Vocabulary]),
        ]))
        {
            graph.Initializer.Add(RandomFloats(name, random, dims));
        }

        return graph;
    }

    /// <summary>A stand-in without a node: its output is an initializer.</summary>
    private static GraphProto Constant()
    {
        GraphProto graph = Graph("constant", [Value("input_ids", DataType.Int64, "batch", "seq")], [Value("logits", DataType.Float, 1, 3, 4)]);
        graph.Initializer.Add(RandomFloats("logits", new Random(7), 1, 3, 4));
        return graph;
    }

    private static GraphProto PassThrough() => Graph(
        "pass", [Value("pixels", DataType.Float, "batch", 8)], [Value("features", DataType.Float, "batch", 8)], Node("same", "Identity", ["pixels"], ["features"]));

    private static GraphProto Padded()
    {
        GraphProto graph = Graph(
            "padded", [Value("inputs_embeds", DataType.Float, "batch", "seq", 8), Value("past_key_values.0.key", DataType.Float, "batch", 2, "past", 4)],
            [Value("logits", DataType.Float, "batch", "seq", Vocabulary), Value("present.0.key", DataType.Float, "batch", 2, "total", 4)],
            Node("head", "MatMul", ["inputs_embeds", "w"], ["logits"]), Node("pad", "Pad", ["past_key_values.0.key", "pads"], ["present.0.key"]));
        graph.Initializer.AddRange([RandomFloats("w", new Random(8), 8, Vocabulary), Longs("pads", [8], 0, 0, 0, 0, 0, 0, 3, 0)]);
        return graph;
    }

    private static GraphProto Scattered()
    {
        GraphProto graph = Graph(
            "scattered", [Value("input_ids", DataType.Int64, "batch", "seq")], [Value("logits", DataType.Float, 4, Vocabulary)],
            Node("zeros", "ConstantOfShape", ["shape"], ["z"]), Node("sum", "ReduceSum", ["input_ids", "last"], ["s"], ("keepdims", 0)),
            Node("wide", "Cast", ["s"], ["s32"], ("to", (int)DataType.Float)), Node("put", "ScatterND", ["z", "at", "s32"], ["logits"]));
        graph.Initializer.AddRange([Longs("shape", [2], 4, Vocabulary), Longs("last", [1], -1), Longs("at", [2, 2], 0, 3, 2, 7)]);
        return graph;
    }

    private static void Save(string folder, string name, GraphProto graph, int opset)
    {
        Directory.CreateDirectory(Path.Combine(folder, name));
        File.WriteAllBytes(Path.Combine(folder, name, "model.onnx"), Model(graph, opset).ToByteArray());
    }
}
