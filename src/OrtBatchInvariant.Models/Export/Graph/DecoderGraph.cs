using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>
/// The graph of a decoder with GroupQueryAttention, in the node patterns and under the names that GenAI's model builder
/// 0.15.2 uses for (cpu, fp32) and (cuda, fp16 or bf16).
/// </summary>
internal static class DecoderGraph
{
    /// <summary>Builds the graph.</summary>
    /// <returns>The model without weight data, and how to write that.</returns>
    public static (ModelProto Model, IReadOnlyList<PendingTensor> Weights) Build(
        HfConfig config, ExportOptions options, IWeightSource weights)
    {
        var graph = new GraphContext(config, options, weights);
        DeclareInputsAndOutputs(graph);
        AddNodes(graph);
        weights.CheckAllUsed();

        const int IrVersion = 10;
        var model = new ModelProto
        {
            IrVersion = IrVersion,
            ProducerName = "OrtBatchInvariant.Models",
            Graph = graph.Builder.Graph,
            OpsetImport =
            {
                new OperatorSetIdProto { Domain = GraphContext.Onnx, Version = 21 },
                new OperatorSetIdProto { Domain = GraphContext.Microsoft, Version = 1 },
            },
        };
        return (model, graph.Builder.Weights);
    }

    private static void AddNodes(GraphContext graph)
    {
        var (sequenceLengths, totalLength) = AddMaskNodes(graph.Builder);
        var attention = new AttentionNodes(graph, sequenceLengths, totalLength);
        var stream = new ResidualStream(graph, EmbeddingNodes.Add(graph));
        var norms = graph.Family.NormNames;
        for (var layer = 0; layer < graph.Config.LayerCount; layer++)
        {
            var attended = attention.Add(layer, stream.Read(layer, norms.BeforeAttention));
            stream.Add(layer, "attn", norms.AfterAttention, attended);
            var inner = MlpNodes.Add(graph, layer, stream.Read(layer, norms.BeforeMlp));
            stream.Add(layer, "mlp", norms.AfterMlp, inner);
        }

        LmHeadNodes.Add(graph, stream.ReadLast());
    }

    private static void DeclareInputsAndOutputs(GraphContext graph)
    {
        var builder = graph.Builder;
        builder.Input("input_ids", DataType.Int64, "batch_size", "sequence_length");
        builder.Input("attention_mask", DataType.Int64, "batch_size", "total_sequence_length");
        builder.Output("logits", LmHeadNodes.TypeOf(graph), GraphContext.Hidden(graph.Config.VocabularySize));
        Dim[] Cache(Dim length) => ["batch_size", graph.Config.KeyValueHeadCount, length, "kv_cache_dim"];
        foreach (var kind in (string[])["key", "value"])
        {
            for (var layer = 0; layer < graph.Config.LayerCount; layer++)
            {
                builder.Input($"past_key_values.{layer}.{kind}", graph.FloatType, Cache("past_sequence_length"));
                builder.Output($"present.{layer}.{kind}", graph.FloatType, Cache("total_sequence_length"));
            }
        }
    }

    /// <summary>Per row the number of real tokens less one, and the width of the mask.</summary>
    private static (string SequenceLengths, string TotalLength) AddMaskNodes(OnnxGraphBuilder builder)
    {
        const string Base = "/model/attn_mask_reformat/attn_mask_subgraph";
        const string Onnx = GraphContext.Onnx;
        var one = builder.Constant([1L]);
        var sum = builder.Node(
            $"{Base}/ReduceSum", "ReduceSum", Onnx, ["attention_mask", one], DataType.Int64, ["batch_size"], AttributeProto.Of("keepdims", 0));
        var less = builder.Node($"{Base}/Sub", "Sub", Onnx, [sum, one], DataType.Int64, ["batch_size"]);
        var lengths = builder.Node(
            $"{Base}/Sub/Cast", "Cast", Onnx, [less], DataType.Int32, ["batch_size"], AttributeProto.Of("to", (long)DataType.Int32));
        var shape = builder.Node($"{Base}/Shape", "Shape", Onnx, ["attention_mask"], DataType.Int64, [2]);
        var width = builder.Node(
            $"{Base}/Gather", "Gather", Onnx, [shape, builder.Constant(1)], DataType.Int64, [], AttributeProto.Of("axis", 0));
        var total = builder.Node(
            $"{Base}/Gather/Cast", "Cast", Onnx, [width], DataType.Int32, [], AttributeProto.Of("to", (long)DataType.Int32));
        return (lengths, total);
    }
}
