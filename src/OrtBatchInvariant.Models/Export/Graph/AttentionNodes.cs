using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Onnx;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>
/// The attention block: one product for queries, keys and values, norms where the family has them, GroupQueryAttention with
/// the rotary embedding inside, and the output projection.
/// </summary>
internal sealed class AttentionNodes(GraphContext graph, string sequenceLengths, string totalLength)
{
    private readonly HashSet<string> _caches = new(StringComparer.Ordinal);

    public string Add(int layer, string input)
    {
        var (query, key, value) = AddQkv(layer, input);
        var attention = AddAttention(layer, query, key, value);
        var basename = $"/model/layers.{layer}/attn/o_proj";
        var matrix = graph.Weights.Matrix(Weight(layer, "o_proj.weight"), graph.Config.HiddenSize, graph.Config.QuerySize);
        var output = ProjectionNodes.MatMul(graph, $"{basename}/MatMul", matrix, attention);
        return graph.Config.OutputBias
            ? ProjectionNodes.Bias(
                graph, $"{basename}/Add", graph.Weights.Vector(Weight(layer, "o_proj.bias"), graph.Config.HiddenSize), output)
            : output;
    }

    private bool NormsInsideAttention =>
        graph.Family.QueryKeyNorm == QueryKeyNorm.EachHead && graph.Options.Target == ExportTarget.Cuda;

    /// <summary>Queries, keys and values: one product, split only where norms come between it and the attention.</summary>
    private (string Query, string Key, string Value) AddQkv(int layer, string input)
    {
        var basename = $"/model/layers.{layer}/attn/qkv_proj";
        var packed = ProjectionNodes.MatMul(graph, $"{basename}/MatMul", QkvMatrix(layer), input);
        if (graph.Config.QkvBias)
        {
            packed = ProjectionNodes.NonZeroBias(graph, $"{basename}/Add", QkvBias(layer), packed);
        }

        if (graph.Family.QueryKeyNorm == QueryKeyNorm.None)
        {
            return (packed, string.Empty, string.Empty);
        }

        var (q, kv) = (graph.Config.QuerySize, graph.Config.KeyValueSize);
        var split = $"{basename}/Split";
        string[] parts = [$"{split}/output_0", $"{split}/output_1", $"{split}/output_2"];
        graph.Builder.Node(
            split, "Split", GraphContext.Onnx, [packed, graph.Builder.Constant([q, kv, kv])], parts, AttributeProto.Of("axis", -1));
        graph.Builder.Value(parts[0], graph.FloatType, GraphContext.Hidden(q));
        graph.Builder.Value(parts[1], graph.FloatType, GraphContext.Hidden(kv));
        graph.Builder.Value(parts[2], graph.FloatType, GraphContext.Hidden(kv));
        return NormsInsideAttention
            ? (parts[0], parts[1], parts[2])
            : (AddNorm(layer, "q_norm", "num_attention_heads", q, parts[0]),
                AddNorm(layer, "k_norm", "num_key_value_heads", kv, parts[1]),
                parts[2]);
    }

    private (string Name, int Rows)[] Projections =>
    [
        ("q_proj", graph.Config.QuerySize), ("k_proj", graph.Config.KeyValueSize), ("v_proj", graph.Config.KeyValueSize),
    ];

    private MatrixSource QkvMatrix(int layer)
    {
        var hidden = graph.Config.HiddenSize;
        return graph.Family.HasFusedProjections
            ? graph.Weights.Matrix(Weight(layer, "qkv_proj.weight"), Projections.Sum(part => part.Rows), hidden)
            : new StackedMatrix([.. Projections.Select(part => graph.Weights.Matrix(Weight(layer, $"{part.Name}.weight"), part.Rows, hidden))]);
    }

    private float[] QkvBias(int layer) =>
        [.. Projections.SelectMany(part => graph.Weights.Vector(Weight(layer, $"{part.Name}.bias"), part.Rows))];

    /// <summary>A norm over each head, or over all heads at once.</summary>
    private string AddNorm(int layer, string norm, string headDim, int size, string input)
    {
        var basename = $"/model/layers.{layer}/attn/{norm}";
        var headSize = graph.Config.HeadSize;
        if (graph.Family.QueryKeyNorm == QueryKeyNorm.WholeProjection)
        {
            return AddNormNode(basename, AddNormWeight(layer, norm, size), GraphContext.Hidden(size), input);
        }

        Dim[] perHead = ["batch_size", $"sequence_length * {headDim}", headSize];
        var weight = AddNormWeight(layer, norm, headSize);
        var heads = graph.Builder.Node(
            $"{basename}/Reshape_1", "Reshape", GraphContext.Onnx, [input, graph.Builder.Constant([0, -1, headSize])],
            graph.FloatType, perHead);
        var normed = AddNormNode(basename, weight, perHead, heads);
        return graph.Builder.Node(
            $"{basename}/Reshape_2", "Reshape", GraphContext.Onnx, [normed, graph.Builder.Constant([0, -1, size])],
            graph.FloatType, GraphContext.Hidden(size));
    }

    private string AddNormNode(string basename, string weight, Dim[] shape, string input) => graph.Builder.Node(
        $"{basename}/SimplifiedLayerNormalization", "SimplifiedLayerNormalization", GraphContext.Onnx, [input, weight],
        graph.FloatType, shape,
        AttributeProto.Of("epsilon", (float)graph.Config.RmsNormEpsilon), AttributeProto.Of("axis", -1), AttributeProto.Of("stash_type", 1));

    private string AddNormWeight(int layer, string norm, int size) => graph.Writer.Vector(
        $"model.layers.{layer}.attn.{norm}.layernorm.weight", graph.NormWeight(Weight(layer, $"{norm}.weight"), size));

    private string AddAttention(int layer, string query, string key, string value)
    {
        var config = graph.Config;
        var (cos, sin) = RotaryCaches(layer);
        List<string> inputs =
        [
            query, key, value, $"past_key_values.{layer}.key", $"past_key_values.{layer}.value", sequenceLengths, totalLength, cos, sin,
        ];
        List<AttributeProto> attributes =
        [
            AttributeProto.Of("num_heads", config.HeadCount),
            AttributeProto.Of("kv_num_heads", config.KeyValueHeadCount),
            AttributeProto.Of("scale", (float)(config.AttentionScale ?? (1 / Math.Sqrt(config.HeadSize)))),
            AttributeProto.Of("local_window_size", config.WindowOf(layer)),
            AttributeProto.Of("softcap", (float)config.AttentionSoftcap),
            AttributeProto.Of("do_rotary", cos.Length > 0 ? 1 : 0),
            AttributeProto.Of("rotary_interleaved", 0),
        ];
        if (NormsInsideAttention)
        {
            // Position ids, bias, sinks and the two cache scales are left out.
            inputs.AddRange(Enumerable.Repeat(string.Empty, 5));
            inputs.AddRange([AddNormWeight(layer, "q_norm", config.HeadSize), AddNormWeight(layer, "k_norm", config.HeadSize)]);
            attributes.Add(AttributeProto.Of("qk_norm_epsilon", (float)config.RmsNormEpsilon));
        }

        var name = $"/model/layers.{layer}/attn/GroupQueryAttention";
        var output = $"{name}/output_0";
        graph.Builder.Node(
            name, "GroupQueryAttention", GraphContext.Microsoft, inputs,
            [output, $"present.{layer}.key", $"present.{layer}.value"], [.. attributes]);
        graph.Builder.Value(output, graph.FloatType, GraphContext.Hidden(config.QuerySize));
        return output;
    }

    /// <summary>Names of the rotary caches of a layer, written when they are first asked for; empty if it has none.</summary>
    private (string Cos, string Sin) RotaryCaches(int layer)
    {
        var config = graph.Config;
        if (config.RopeOf(layer) is not { } rope)
        {
            return (string.Empty, string.Empty);
        }

        var suffix = config.LocalRope is null ? string.Empty : ReferenceEquals(rope, config.LocalRope) ? "_local" : "_global";
        var (cosName, sinName) = ($"cos_cache{suffix}", $"sin_cache{suffix}");
        if (_caches.Add(suffix))
        {
            var (cos, sin) = RotaryCache.Compute(rope, config.HeadSize, config.ContextLength);
            long[] shape = [config.ContextLength, rope.Width(config.HeadSize) / 2];
            graph.Writer.Table(cosName, cos, shape);
            graph.Writer.Table(sinName, sin, shape);
        }

        return (cosName, sinName);
    }

    private static string Weight(int layer, string part) => WeightNames.Layer(layer, $"self_attn.{part}");
}
