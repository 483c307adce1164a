using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Onnx;
using static OrtBatchInvariant.Models.Export.Graph.OnnxGraphBuilder;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>
/// The graph of a decoder with GroupQueryAttention, in the node patterns and under the names that GenAI's model builder
/// 0.15.2 uses for (cpu, fp32) and (cuda, fp16 or bf16). Rotary embeddings are computed inside GroupQueryAttention.
/// </summary>
internal sealed class DecoderGraph
{
    private const string Microsoft = "com.microsoft";
    private const string Onnx = "";

    private readonly HfConfig _config;
    private readonly ExportOptions _options;
    private readonly IWeightSource _weights;
    private readonly OnnxGraphBuilder _builder = new();
    private readonly DataType _floatType;
    private readonly WeightWriter _writer;
    private readonly BlockQuantizer? _quantizer;

    private string _residual = string.Empty;
    private string _addend = string.Empty;

    private DecoderGraph(HfConfig config, ExportOptions options, IWeightSource weights)
    {
        _config = config;
        _options = options;
        _weights = weights;
        _floatType = options.ActivationType;
        _writer = new WeightWriter(_builder, _floatType);
        _quantizer = options.WeightBits == 0
            ? null
            : new BlockQuantizer(options.WeightBits, options.BlockSize, options.IsSymmetric, _floatType);
    }

    /// <summary>Builds the graph.</summary>
    /// <returns>The model without weight data, and how to write that.</returns>
    public static (ModelProto Model, IReadOnlyList<PendingTensor> Weights) Build(
        HfConfig config, ExportOptions options, IWeightSource weights)
    {
        var graph = new DecoderGraph(config, options, weights);
        graph.Build();
        weights.CheckAllUsed();

        const int IrVersion = 10;
        var model = new ModelProto
        {
            IrVersion = IrVersion,
            ProducerName = "OrtBatchInvariant.Models",
            Graph = graph._builder.Graph,
            OpsetImport =
            {
                new OperatorSetIdProto { Domain = Onnx, Version = 21 },
                new OperatorSetIdProto { Domain = Microsoft, Version = 1 },
            },
        };
        return (model, graph._builder.Weights);
    }

    private void Build()
    {
        DeclareInputsAndOutputs();
        var (sequenceLengths, totalLength) = AddMaskNodes();
        AddEmbedding();
        var (cos, sin) = RotaryCache.Compute(_config);
        long[] cacheShape = [_config.ContextLength, _config.HeadSize / 2];
        for (var layer = 0; layer < _config.LayerCount; layer++)
        {
            var normed = AddNorm(layer, "input", WeightNames.Layer(layer, "input_layernorm.weight"), isFirst: layer == 0);
            var (query, key, value) = AddQkv(layer, normed);
            if (layer == 0)
            {
                _writer.Table("cos_cache", cos, cacheShape);
                _writer.Table("sin_cache", sin, cacheShape);
            }

            var attention = AddAttention(layer, query, key, value, sequenceLengths, totalLength);
            _addend = AddOutputProjection(layer, attention);
            normed = AddNorm(layer, "post_attention", WeightNames.Layer(layer, "post_attention_layernorm.weight"));
            _addend = AddMlp(layer, normed);
        }

        AddLmHead(AddNorm(_config.LayerCount, "final_norm", WeightNames.FinalNorm, isLast: true));
    }

    private Dim[] Hidden(Dim width) => ["batch_size", "sequence_length", width];

    private void DeclareInputsAndOutputs()
    {
        _builder.Input("input_ids", DataType.Int64, "batch_size", "sequence_length");
        _builder.Input("attention_mask", DataType.Int64, "batch_size", "total_sequence_length");
        var logitsType = _floatType == DataType.Bfloat16 ? DataType.Float : _floatType;
        _builder.Output("logits", logitsType, Hidden(_config.VocabularySize));
        Dim[] Cache(Dim length) => ["batch_size", _config.KeyValueHeadCount, length, "kv_cache_dim"];
        foreach (var kind in (string[])["key", "value"])
        {
            for (var layer = 0; layer < _config.LayerCount; layer++)
            {
                _builder.Input($"past_key_values.{layer}.{kind}", _floatType, Cache("past_sequence_length"));
                _builder.Output($"present.{layer}.{kind}", _floatType, Cache("total_sequence_length"));
            }
        }
    }

    /// <summary>Per row the number of real tokens less one, and the width of the mask.</summary>
    private (string SequenceLengths, string TotalLength) AddMaskNodes()
    {
        const string Base = "/model/attn_mask_reformat/attn_mask_subgraph";
        var one = _builder.Constant([1L]);
        var sum = _builder.Node(
            $"{Base}/ReduceSum", "ReduceSum", Onnx, ["attention_mask", one], DataType.Int64, ["batch_size"], Attribute("keepdims", 0));
        var less = _builder.Node($"{Base}/Sub", "Sub", Onnx, [sum, one], DataType.Int64, ["batch_size"]);
        var lengths = _builder.Node(
            $"{Base}/Sub/Cast", "Cast", Onnx, [less], DataType.Int32, ["batch_size"], Attribute("to", (long)DataType.Int32));
        var shape = _builder.Node($"{Base}/Shape", "Shape", Onnx, ["attention_mask"], DataType.Int64, [2]);
        var width = _builder.Node(
            $"{Base}/Gather", "Gather", Onnx, [shape, _builder.Constant(1)], DataType.Int64, [], Attribute("axis", 0));
        var total = _builder.Node(
            $"{Base}/Gather/Cast", "Cast", Onnx, [width], DataType.Int32, [], Attribute("to", (long)DataType.Int32));
        return (lengths, total);
    }

    private void AddEmbedding()
    {
        const string Base = "/model/embed_tokens";
        const string LmHeadWeight = "lm_head.MatMul.weight";
        var shape = Hidden(_config.HiddenSize);

        // A tied table is stored once, as the head's weight. Quantised values can be read as rows only where blocks fill
        // the rows exactly.
        if (_config.TieWordEmbeddings && _quantizer is null)
        {
            var transposed = _builder.Node(
                $"{Base}/Transpose", "Transpose", Onnx, [LmHeadWeight], _floatType, [_config.VocabularySize, _config.HiddenSize],
                Attribute("perm", [1, 0]));
            _residual = _builder.Node($"{Base}/Gather", "Gather", Onnx, [transposed, "input_ids"], _floatType, shape);
        }
        else if (_config.TieWordEmbeddings && _quantizer is not null && _config.HiddenSize % _quantizer.BlockSize == 0)
        {
            var rowBytes = _config.HiddenSize * _quantizer.Bits / 8;
            var values = _builder.Node(
                $"{Base}/Reshape", "Reshape", Onnx,
                [$"{LmHeadWeight}_Q{_quantizer.Bits}", _builder.Constant([_config.VocabularySize, rowBytes])],
                DataType.Uint8, [_config.VocabularySize, rowBytes]);
            List<string> inputs = [values, "input_ids", $"{LmHeadWeight}_scales"];
            if (!_quantizer.IsSymmetric)
            {
                inputs.Add($"{LmHeadWeight}_zero_points");
            }

            _residual = _builder.Node(
                $"{Base}/GatherBlockQuantized", "GatherBlockQuantized", Microsoft, inputs, _floatType, shape,
                Attribute("bits", _quantizer.Bits), Attribute("block_size", _quantizer.BlockSize),
                Attribute("gather_axis", 0), Attribute("quantize_axis", 1));
        }
        else
        {
            var table = _writer.RowMajor(
                "model.embed_tokens.weight", _weights.Matrix(WeightNames.Embedding, _config.VocabularySize, _config.HiddenSize));
            _residual = _builder.Node($"{Base}/Gather", "Gather", Onnx, [table, "input_ids"], _floatType, shape);
        }
    }

    /// <summary>The norm of the residual stream, after adding what the last block made.</summary>
    private string AddNorm(int layer, string location, string weightName, bool isFirst = false, bool isLast = false)
    {
        var basename = $"/model/layers.{layer}/{location}_layernorm";
        var weight = _writer.Vector($"model.layers.{layer}.{location}_layernorm.weight", _weights.Vector(weightName, _config.HiddenSize));
        var output = $"{basename}/output_0";
        var epsilon = Attribute("epsilon", (float)_config.RmsNormEpsilon);
        if (isFirst)
        {
            _builder.Node(
                $"{basename}/LayerNorm", "SimplifiedLayerNormalization", Onnx, [_residual, weight], [output],
                Attribute("axis", -1), epsilon, Attribute("stash_type", 1));
            _builder.Value(output, _floatType, Hidden(_config.HiddenSize));
            return output;
        }

        var sum = $"{basename}/output_3";
        _builder.Node(
            $"{basename}/SkipLayerNorm", "SkipSimplifiedLayerNormalization", Microsoft, [_residual, _addend, weight],
            isLast ? [output] : [output, string.Empty, string.Empty, sum], epsilon);
        _builder.Value(output, _floatType, Hidden(_config.HiddenSize));
        if (!isLast)
        {
            _builder.Value(sum, _floatType, Hidden(_config.HiddenSize));
            _residual = sum;
        }

        return output;
    }

    /// <summary>Queries, keys and values: one product, split only where norms come between it and the attention.</summary>
    private (string Query, string Key, string Value) AddQkv(int layer, string input)
    {
        var basename = $"/model/layers.{layer}/attn/qkv_proj";
        var projections = (string[])["q_proj", "k_proj", "v_proj"];
        int[] sizes = [_config.QuerySize, _config.KeyValueSize, _config.KeyValueSize];
        var matrix = new StackedMatrix(
            [.. projections.Select((name, i) => _weights.Matrix(AttentionWeight(layer, $"{name}.weight"), sizes[i], _config.HiddenSize))]);
        var packed = AddMatMul($"{basename}/MatMul", matrix, input);
        if (_config.QkvBias)
        {
            var bias = projections.SelectMany((name, i) => _weights.Vector(AttentionWeight(layer, $"{name}.bias"), sizes[i])).ToArray();
            packed = AddNonZeroBias($"{basename}/Add", bias, packed);
        }

        if (!_config.QkNorm)
        {
            return (packed, string.Empty, string.Empty);
        }

        var split = $"{basename}/Split";
        string[] parts = [$"{split}/output_0", $"{split}/output_1", $"{split}/output_2"];
        _builder.Node(
            split, "Split", Onnx, [packed, _builder.Constant([sizes[0], sizes[1], sizes[2]])], parts, Attribute("axis", -1));
        for (var i = 0; i < parts.Length; i++)
        {
            _builder.Value(parts[i], _floatType, Hidden(sizes[i]));
        }

        return _options.Target == ExportTarget.Cuda
            ? (parts[0], parts[1], parts[2])
            : (AddHeadNorm(layer, "q_norm", "num_attention_heads", sizes[0], parts[0]),
                AddHeadNorm(layer, "k_norm", "num_key_value_heads", sizes[1], parts[1]),
                parts[2]);
    }

    /// <summary>A norm over each head of queries or keys.</summary>
    private string AddHeadNorm(int layer, string norm, string headDim, int size, string input)
    {
        var basename = $"/model/layers.{layer}/attn/{norm}";
        Dim[] perHead = ["batch_size", $"sequence_length * {headDim}", _config.HeadSize];
        var weight = AddHeadNormWeight(layer, norm);
        var heads = _builder.Node(
            $"{basename}/Reshape_1", "Reshape", Onnx, [input, _builder.Constant([0, -1, _config.HeadSize])], _floatType, perHead);
        var normed = _builder.Node(
            $"{basename}/SimplifiedLayerNormalization", "SimplifiedLayerNormalization", Onnx, [heads, weight], _floatType, perHead,
            Attribute("epsilon", (float)_config.RmsNormEpsilon), Attribute("axis", -1), Attribute("stash_type", 1));
        return _builder.Node(
            $"{basename}/Reshape_2", "Reshape", Onnx, [normed, _builder.Constant([0, -1, size])], _floatType, Hidden(size));
    }

    private string AddHeadNormWeight(int layer, string norm) => _writer.Vector(
        $"model.layers.{layer}.attn.{norm}.layernorm.weight", _weights.Vector(AttentionWeight(layer, $"{norm}.weight"), _config.HeadSize));

    private string AddAttention(int layer, string query, string key, string value, string sequenceLengths, string totalLength)
    {
        List<string> inputs =
        [
            query, key, value, $"past_key_values.{layer}.key", $"past_key_values.{layer}.value", sequenceLengths, totalLength,
            "cos_cache", "sin_cache",
        ];
        List<AttributeProto> attributes =
        [
            Attribute("num_heads", _config.HeadCount),
            Attribute("kv_num_heads", _config.KeyValueHeadCount),
            Attribute("scale", (float)(1 / Math.Sqrt(_config.HeadSize))),
            Attribute("local_window_size", _config.SlidingWindow),
            Attribute("softcap", 0f),
            Attribute("do_rotary", 1),
            Attribute("rotary_interleaved", 0),
        ];
        if (_config.QkNorm && _options.Target == ExportTarget.Cuda)
        {
            // Position ids, bias, sinks and the two cache scales are left out.
            inputs.AddRange(Enumerable.Repeat(string.Empty, 5));
            inputs.AddRange([AddHeadNormWeight(layer, "q_norm"), AddHeadNormWeight(layer, "k_norm")]);
            attributes.Add(Attribute("qk_norm_epsilon", (float)_config.RmsNormEpsilon));
        }

        var name = $"/model/layers.{layer}/attn/GroupQueryAttention";
        var output = $"{name}/output_0";
        _builder.Node(
            name, "GroupQueryAttention", Microsoft, inputs, [output, $"present.{layer}.key", $"present.{layer}.value"], [.. attributes]);
        _builder.Value(output, _floatType, Hidden(_config.QuerySize));
        return output;
    }

    private string AddOutputProjection(int layer, string input)
    {
        var basename = $"/model/layers.{layer}/attn/o_proj";
        var matrix = _weights.Matrix(AttentionWeight(layer, "o_proj.weight"), _config.HiddenSize, _config.QuerySize);
        var output = AddMatMul($"{basename}/MatMul", matrix, input);
        return _config.OutputBias
            ? AddBias($"{basename}/Add", _weights.Vector(AttentionWeight(layer, "o_proj.bias"), _config.HiddenSize), output)
            : output;
    }

    private string AddMlp(int layer, string input)
    {
        var basename = $"/model/layers.{layer}/mlp";
        var shape = Hidden(_config.IntermediateSize);
        var gate = AddMlpProjection(layer, "gate_proj", _config.IntermediateSize, _config.HiddenSize, input);
        var up = AddMlpProjection(layer, "up_proj", _config.IntermediateSize, _config.HiddenSize, input);
        var sigmoid = _builder.Node($"{basename}/act_fn/Sigmoid", "Sigmoid", Onnx, [gate], _floatType, shape);
        var activated = _builder.Node($"{basename}/act_fn/Mul", "Mul", Onnx, [gate, sigmoid], _floatType, shape);
        var product = _builder.Node($"{basename}/Mul", "Mul", Onnx, [activated, up], _floatType, shape);
        return AddMlpProjection(layer, "down_proj", _config.HiddenSize, _config.IntermediateSize, product);
    }

    private string AddMlpProjection(int layer, string projection, int rows, int columns, string input)
    {
        var basename = $"/model/layers.{layer}/mlp/{projection}";
        var weight = WeightNames.Layer(layer, $"mlp.{projection}");
        var output = AddMatMul($"{basename}/MatMul", _weights.Matrix($"{weight}.weight", rows, columns), input);
        return _config.MlpBias ? AddNonZeroBias($"{basename}/Add", _weights.Vector($"{weight}.bias", rows), output) : output;
    }

    private void AddLmHead(string input)
    {
        var name = _config.TieWordEmbeddings ? WeightNames.Embedding : WeightNames.LmHead;
        var matrix = _weights.Matrix(name, _config.VocabularySize, _config.HiddenSize);
        if (_floatType != DataType.Bfloat16)
        {
            AddMatMul("/lm_head/MatMul", matrix, input, output: "logits");
            return;
        }

        var logits = AddMatMul("/lm_head/MatMul", matrix, input);
        _builder.Node("/lm_head/Cast", "Cast", Onnx, [logits], ["logits"], Attribute("to", (long)DataType.Float));
    }

    private string AddMatMul(string name, MatrixSource matrix, string input, string? output = null)
    {
        // A graph output's type and shape are stated with the output.
        if (output is null)
        {
            output = $"{name}/output_0";
            _builder.Value(output, _floatType, Hidden(matrix.Rows));
        }

        var weight = $"{name[1..].Replace('/', '.')}.weight";
        if (_quantizer is null)
        {
            _builder.Node(name, "MatMul", Onnx, [input, _writer.Transposed(weight, matrix)], [output]);
            return output;
        }

        List<AttributeProto> attributes =
        [
            Attribute("K", matrix.Columns),
            Attribute("N", matrix.Rows),
            Attribute("bits", _quantizer.Bits),
            Attribute("block_size", _quantizer.BlockSize),
        ];
        if (_options.EffectiveAccuracyLevel != 0)
        {
            attributes.Add(Attribute("accuracy_level", _options.EffectiveAccuracyLevel));
        }

        _builder.Node(
            $"{name}_Q{_quantizer.Bits}", "MatMulNBits", Microsoft, [input, .. _writer.Quantized(weight, matrix, _quantizer)], [output],
            [.. attributes]);
        return output;
    }

    /// <summary>Adds a bias, unless all of it is zero, as some checkpoints carry it.</summary>
    private string AddNonZeroBias(string name, float[] bias, string input) =>
        bias.Any(value => value != 0f) ? AddBias(name, bias, input) : input;

    private string AddBias(string name, float[] bias, string input)
    {
        var weight = _writer.Vector($"{name[1..].Replace('/', '.')}.bias", bias);
        return _builder.Node(name, "Add", Onnx, [input, weight], _floatType, Hidden(bias.Length));
    }

    private static string AttentionWeight(int layer, string part) => WeightNames.Layer(layer, $"self_attn.{part}");
}
