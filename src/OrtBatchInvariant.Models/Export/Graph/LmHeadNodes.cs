using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>The graph output <c>logits</c>, soft-capped where the model does it; fp32 in a bf16 graph.</summary>
internal static class LmHeadNodes
{
    private const string Output = "logits";

    /// <summary>Type of the logits.</summary>
    public static DataType TypeOf(GraphContext graph) => graph.FloatType == DataType.Bfloat16 ? DataType.Float : graph.FloatType;

    public static void Add(GraphContext graph, string input)
    {
        var config = graph.Config;
        var name = config.TieWordEmbeddings ? WeightNames.Embedding : WeightNames.LmHead;
        var matrix = graph.Weights.Matrix(name, config.VocabularySize, config.HiddenSize);
        var needsCast = TypeOf(graph) != graph.FloatType;
        var hasSoftcap = config.LogitSoftcap != 0;
        var logits = ProjectionNodes.MatMul(graph, "/lm_head/MatMul", matrix, input, needsCast || hasSoftcap ? null : Output);
        if (hasSoftcap)
        {
            logits = AddSoftcap(graph, logits, needsCast ? "/lm_head/softcap/Mul/output_0" : Output);
        }

        if (needsCast)
        {
            graph.Builder.Node("/lm_head/Cast", "Cast", GraphContext.Onnx, [logits], [Output], AttributeProto.Of("to", (long)TypeOf(graph)));
        }
    }

    private static string AddSoftcap(GraphContext graph, string logits, string output)
    {
        const string Base = "/lm_head/softcap";
        var shape = GraphContext.Hidden(graph.Config.VocabularySize);
        var cap = graph.Builder.Constant((float)graph.Config.LogitSoftcap, graph.FloatType);
        var scaled = graph.Builder.Node($"{Base}/Div", "Div", GraphContext.Onnx, [logits, cap], graph.FloatType, shape);
        var bounded = graph.Builder.Node($"{Base}/Tanh", "Tanh", GraphContext.Onnx, [scaled], graph.FloatType, shape);
        graph.Builder.Node($"{Base}/Mul", "Mul", GraphContext.Onnx, [bounded, cap], [output]);
        if (output != Output)
        {
            graph.Builder.Value(output, graph.FloatType, shape);
        }

        return output;
    }
}
