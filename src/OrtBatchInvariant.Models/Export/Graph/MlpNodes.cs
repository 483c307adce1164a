using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Onnx;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>The gated MLP: down(activation(gate(x)) * up(x)).</summary>
internal static class MlpNodes
{
    public static string Add(GraphContext graph, int layer, string input)
    {
        var (inner, hidden) = (graph.Config.IntermediateSize, graph.Config.HiddenSize);
        var (gateMatrix, upMatrix) = GateAndUp(graph, layer);
        var gate = AddProjection(graph, layer, "gate_proj", gateMatrix, input);
        var up = AddProjection(graph, layer, "up_proj", upMatrix, input);
        var activated = AddActivation(graph, $"/model/layers.{layer}/mlp/act_fn", gate);
        var product = graph.Builder.Node(
            $"/model/layers.{layer}/mlp/Mul", "Mul", GraphContext.Onnx, [activated, up], graph.FloatType, GraphContext.Hidden(inner));
        var down = graph.Weights.Matrix(Weight(layer, "down_proj.weight"), hidden, inner);
        return AddProjection(graph, layer, "down_proj", down, product);
    }

    private static (MatrixSource Gate, MatrixSource Up) GateAndUp(GraphContext graph, int layer)
    {
        var (inner, hidden) = (graph.Config.IntermediateSize, graph.Config.HiddenSize);
        if (!graph.Family.HasFusedProjections)
        {
            return (
                graph.Weights.Matrix(Weight(layer, "gate_proj.weight"), inner, hidden),
                graph.Weights.Matrix(Weight(layer, "up_proj.weight"), inner, hidden));
        }

        var both = graph.Weights.Matrix(Weight(layer, "gate_up_proj.weight"), 2 * inner, hidden);
        return (new RowsOfMatrix(both, firstRow: 0, inner), new RowsOfMatrix(both, firstRow: inner, inner));
    }

    private static string AddProjection(GraphContext graph, int layer, string projection, MatrixSource matrix, string input)
    {
        var basename = $"/model/layers.{layer}/mlp/{projection}";
        var output = ProjectionNodes.MatMul(graph, $"{basename}/MatMul", matrix, input);
        return graph.Config.MlpBias
            ? ProjectionNodes.NonZeroBias(
                graph, $"{basename}/Add", graph.Weights.Vector(Weight(layer, $"{projection}.bias"), matrix.Rows), output)
            : output;
    }

    private static string AddActivation(GraphContext graph, string basename, string gate)
    {
        var shape = GraphContext.Hidden(graph.Config.IntermediateSize);
        string Node(string name, string op, IEnumerable<string> inputs, params ReadOnlySpan<AttributeProto> attributes) =>
            graph.Builder.Node($"{basename}/{name}", op, GraphContext.Onnx, inputs, graph.FloatType, shape, attributes);
        return graph.Config.Activation switch
        {
            GateActivation.Silu => Node("Mul", "Mul", [gate, Node("Sigmoid", "Sigmoid", [gate])]),
            GateActivation.Gelu => Node("Gelu", "Gelu", [gate], AttributeProto.Of("approximate", "none")),
            GateActivation.GeluTanh => Node("FastGelu", "Gelu", [gate], AttributeProto.Of("approximate", "tanh")),
            _ => throw new ModelException($"The activation {graph.Config.Activation} cannot be exported."),
        };
    }

    private static string Weight(int layer, string part) => WeightNames.Layer(layer, $"mlp.{part}");
}
