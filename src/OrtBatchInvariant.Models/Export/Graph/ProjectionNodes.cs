using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Onnx;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>Products with a weight matrix, and biases.</summary>
internal static class ProjectionNodes
{
    /// <summary>input [.., K] times the transpose of the matrix [N, K]: MatMul, or MatMulNBits for quantised weights.</summary>
    /// <returns>Name of the product, <paramref name="output"/> if that is given: a graph output, whose type is stated there.</returns>
    public static string MatMul(GraphContext graph, string name, MatrixSource matrix, string input, string? output = null)
    {
        if (output is null)
        {
            output = $"{name}/output_0";
            graph.Builder.Value(output, graph.FloatType, GraphContext.Hidden(matrix.Rows));
        }

        var weight = WeightName(name, "weight");
        if (graph.Quantizer is not { } quantizer)
        {
            graph.Builder.Node(name, "MatMul", GraphContext.Onnx, [input, graph.Writer.Transposed(weight, matrix)], [output]);
            return output;
        }

        List<AttributeProto> attributes =
        [
            AttributeProto.Of("K", matrix.Columns),
            AttributeProto.Of("N", matrix.Rows),
            AttributeProto.Of("bits", quantizer.Bits),
            AttributeProto.Of("block_size", quantizer.BlockSize),
        ];
        if (graph.Options.EffectiveAccuracyLevel != 0)
        {
            attributes.Add(AttributeProto.Of("accuracy_level", graph.Options.EffectiveAccuracyLevel));
        }

        graph.Builder.Node(
            $"{name}_Q{quantizer.Bits}", "MatMulNBits", GraphContext.Microsoft,
            [input, .. graph.Writer.Quantized(weight, matrix, quantizer)], [output], [.. attributes]);
        return output;
    }

    /// <summary>Adds a bias, unless all of it is zero, as some checkpoints carry it.</summary>
    public static string NonZeroBias(GraphContext graph, string name, float[] bias, string input) =>
        bias.Any(value => value != 0f) ? Bias(graph, name, bias, input) : input;

    /// <summary>Adds a bias.</summary>
    public static string Bias(GraphContext graph, string name, float[] bias, string input)
    {
        var weight = graph.Writer.Vector(WeightName(name, "bias"), bias);
        return graph.Builder.Node(name, "Add", GraphContext.Onnx, [input, weight], graph.FloatType, GraphContext.Hidden(bias.Length));
    }

    private static string WeightName(string node, string kind) => $"{node[1..].Replace('/', '.')}.{kind}";
}
