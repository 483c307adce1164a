using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Onnx;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>
/// The residual stream, its norms, and the sums of what blocks add to it. A sum is made where it is read: inside the next
/// norm, or by an Add where the next block has no norm before it.
/// </summary>
internal sealed class ResidualStream(GraphContext graph, string embedding)
{
    private string _sum = embedding;

    // What the last block made, and the name of where it came from.
    private (string Value, string Origin)? _addend;

    private Dim[] Shape => GraphContext.Hidden(graph.Config.HiddenSize);

    private AttributeProto Epsilon => AttributeProto.Of("epsilon", (float)graph.Config.RmsNormEpsilon);

    /// <summary>What a block reads: the normed stream, or the stream itself if the block has no norm before it.</summary>
    public string Read(int layer, string? norm)
    {
        if (norm is not null)
        {
            return Norm(layer, norm, WeightNames.Layer(layer, $"{norm}.weight"));
        }

        if (_addend is { } addend)
        {
            _sum = graph.Builder.Node($"{addend.Origin}/Add", "Add", GraphContext.Onnx, [_sum, addend.Value], graph.ResidualType, Shape);
            _addend = null;
        }

        return _sum;
    }

    /// <summary>The norm before the language-model head.</summary>
    public string ReadLast() => Norm(graph.Config.LayerCount, "final_norm_layernorm", WeightNames.FinalNorm, isLast: true);

    /// <summary>Adds what a block has made, normed first if the block has a norm after it.</summary>
    public void Add(int layer, string block, string? norm, string output)
    {
        var origin = $"/model/layers.{layer}/{norm ?? block}";
        var shape = Shape;
        if (norm is null)
        {
            _addend = (graph.Cast($"{origin}/Cast", output, graph.FloatType, graph.ResidualType, shape), origin);
            return;
        }

        var name = $"{origin}/LayerNorm";
        var input = graph.Cast($"{name}/root_input/Cast", output, graph.FloatType, graph.ResidualType, shape);
        var weight = Weight(layer, norm, WeightNames.Layer(layer, $"{norm}.weight"));
        AddPlainNorm(name, input, weight, $"{origin}/output_0");
        _addend = ($"{origin}/output_0", origin);
    }

    /// <summary>The norm of the stream after adding what the last block made.</summary>
    private string Norm(int layer, string norm, string source, bool isLast = false)
    {
        var basename = $"/model/layers.{layer}/{norm}";
        var output = $"{basename}/output_0";
        var name = $"{basename}/{(_addend is null ? "LayerNorm" : "SkipLayerNorm")}";
        var needsCast = graph.ResidualType != graph.FloatType;
        var normed = needsCast ? $"{name}/output_0/Cast/output_0" : output;
        var weight = Weight(layer, norm, source);
        if (_addend is { } addend)
        {
            AddSkipNorm(name, addend.Value, weight, normed, isLast ? null : $"{basename}/output_3");
        }
        else
        {
            AddPlainNorm(name, _sum, weight, normed);
        }

        if (needsCast)
        {
            graph.Builder.Node(
                $"{name}/output_0/Cast", "Cast", GraphContext.Onnx, [normed], [output], AttributeProto.Of("to", (long)graph.FloatType));
            graph.Builder.Value(output, graph.FloatType, Shape);
        }

        return output;
    }

    private void AddPlainNorm(string name, string input, string weight, string output)
    {
        graph.Builder.Node(
            name, "SimplifiedLayerNormalization", GraphContext.Onnx, [input, weight], [output],
            AttributeProto.Of("axis", -1), Epsilon, AttributeProto.Of("stash_type", 1));
        graph.Builder.Value(output, graph.ResidualType, Shape);
    }

    private void AddSkipNorm(string name, string addend, string weight, string output, string? sum)
    {
        graph.Builder.Node(
            name, "SkipSimplifiedLayerNormalization", GraphContext.Microsoft, [_sum, addend, weight],
            sum is null ? [output] : [output, string.Empty, string.Empty, sum], Epsilon);
        graph.Builder.Value(output, graph.ResidualType, Shape);
        if (sum is not null)
        {
            graph.Builder.Value(sum, graph.ResidualType, Shape);
            _sum = sum;
            _addend = null;
        }
    }

    private string Weight(int layer, string norm, string source) => graph.Writer.Vector(
        $"model.layers.{layer}.{norm}.weight", graph.NormWeight(source, graph.Config.HiddenSize), graph.ResidualType);
}
