using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>The rows of the embedding for <c>input_ids</c>, scaled where the family does it.</summary>
internal static class EmbeddingNodes
{
    private const string Base = "/model/embed_tokens";
    private const string LmHeadWeight = "lm_head.MatMul.weight";

    public static string Add(GraphContext graph)
    {
        var shape = GraphContext.Hidden(graph.Config.HiddenSize);
        var rows = AddLookup(graph, shape);
        if (graph.Family.ScalesEmbedding)
        {
            var scale = graph.Builder.Constant((float)Math.Sqrt(graph.Config.HiddenSize), graph.FloatType);
            rows = graph.Builder.Node($"{Base}/Mul", "Mul", GraphContext.Onnx, [rows, scale], graph.FloatType, shape);
        }

        return graph.Cast($"{Base}/Cast", rows, graph.FloatType, graph.ResidualType, shape);
    }

    private static string AddLookup(GraphContext graph, Dim[] shape)
    {
        var config = graph.Config;
        var builder = graph.Builder;

        // A tied table is stored once, as the head's weight. Quantised values can be read as rows only where blocks fill
        // the rows exactly.
        if (config.TieWordEmbeddings && graph.Quantizer is null)
        {
            var transposed = builder.Node(
                $"{Base}/Transpose", "Transpose", GraphContext.Onnx, [LmHeadWeight], graph.FloatType,
                [config.VocabularySize, config.HiddenSize], AttributeProto.Of("perm", [1, 0]));
            return builder.Node($"{Base}/Gather", "Gather", GraphContext.Onnx, [transposed, "input_ids"], graph.FloatType, shape);
        }

        if (!config.TieWordEmbeddings || graph.Quantizer is not { } quantizer || config.HiddenSize % quantizer.BlockSize != 0)
        {
            var table = graph.Writer.RowMajor(
                "model.embed_tokens.weight", graph.Weights.Matrix(WeightNames.Embedding, config.VocabularySize, config.HiddenSize));
            return builder.Node($"{Base}/Gather", "Gather", GraphContext.Onnx, [table, "input_ids"], graph.FloatType, shape);
        }

        var rowBytes = config.HiddenSize * quantizer.Bits / 8;
        var values = builder.Node(
            $"{Base}/Reshape", "Reshape", GraphContext.Onnx,
            [$"{LmHeadWeight}_Q{quantizer.Bits}", builder.Constant([config.VocabularySize, rowBytes])],
            DataType.Uint8, [config.VocabularySize, rowBytes]);
        List<string> inputs = [values, "input_ids", $"{LmHeadWeight}_scales"];
        if (!quantizer.IsSymmetric)
        {
            inputs.Add($"{LmHeadWeight}_zero_points");
        }

        return builder.Node(
            $"{Base}/GatherBlockQuantized", "GatherBlockQuantized", GraphContext.Microsoft, inputs, graph.FloatType, shape,
            AttributeProto.Of("bits", quantizer.Bits), AttributeProto.Of("block_size", quantizer.BlockSize),
            AttributeProto.Of("gather_axis", 0), AttributeProto.Of("quantize_axis", 1));
    }
}
