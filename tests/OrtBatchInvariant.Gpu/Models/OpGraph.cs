using System.Runtime.InteropServices;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Gpu.Models;

/// <summary>A graph of one node, of an op that no model of `ortbi export` has. The rows of its inputs and outputs lie along axis 0.</summary>
internal sealed class OpGraph
{
    private const int Hidden = 128;
    private const int Inter = 64;
    private const int Experts = 16;
    private const int Heads = 4;
    private const int HeadSize = 32;
    private const int Tokens = 9;
    private const int Past = 5;

    private readonly Random _random = new(11);
    private readonly GraphProto _graph = new() { Name = "one node" };
    private readonly NodeProto _node;
    private readonly DataType _type;
    private readonly List<(string Name, DataType Type, long[] Row)> _inputs = [];

    private OpGraph(string op, string domain, DataType type)
    {
        Name = $"{(domain.Length > 0 ? domain + "." : "")}{op} {(type == DataType.Float16 ? "fp16" : "fp32")}";
        _type = type;
        _node = new NodeProto { Name = "node", OpType = op, Domain = domain };
        _graph.Node.Add(_node);
    }

    public string Name { get; private set; }

    /// <summary>Of the inputs and outputs that are no integers.</summary>
    public int ElementBytes => Size(_type);

    public static IReadOnlyList<OpGraph> All() =>
        [.. ((ReadOnlySpan<DataType>)[DataType.Float16, DataType.Float]).ToArray().SelectMany<DataType, OpGraph>(type =>
        [
            Moe(type), QMoe(type, 4, 32), QMoe(type, 8, 0), MultiHead(type), Packed(type), Onnx(type), Embed(type),
        ])];

    /// <summary>The model's bytes.</summary>
    public byte[] Model()
    {
        var model = new ModelProto { IrVersion = 10, Graph = _graph, ProducerName = "ort-batch-invariant" };
        model.OpsetImport.Add(new OperatorSetIdProto { Version = 24 });
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "com.microsoft", Version = 1 });
        return model.ToByteArray();
    }

    /// <summary>Random bytes of every input for a number of rows.</summary>
    public byte[][] Values(int rows, Random random) => [.. _inputs.Select(input => Bytes(input.Type, rows * Count(input.Row), random, 1))];

    /// <summary>Runs rows [first, first + count) of <paramref name="values"/>.</summary>
    /// <returns>The bytes of every output.</returns>
    public byte[][] Run(InferenceSession session, byte[][] values, int first, int count)
    {
        var feeds = new Dictionary<string, OrtValue>();
        using var options = new RunOptions();
        try
        {
            foreach (((string name, DataType type, long[] row), byte[] bytes) in _inputs.Zip(values))
            {
                OrtValue value = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, (TensorElementType)type, [count, .. row]);
                feeds.Add(name, value);
                int rowBytes = (int)Count(row) * Size(type);
                bytes.AsSpan(first * rowBytes, count * rowBytes).CopyTo(value.GetTensorMutableRawData());
            }

            using IDisposableReadOnlyCollection<OrtValue> results = session.Run(options, feeds, [.. _graph.Output.Select(output => output.Name)]);
            return [.. results.Select(result => result.GetTensorMutableRawData().ToArray())];
        }
        finally
        {
            foreach (OrtValue value in feeds.Values)
            {
                value.Dispose();
            }
        }
    }

    private static OpGraph Moe(DataType type)
    {
        var graph = new OpGraph("MoE", "com.microsoft", type);
        graph.Input("input", Hidden).Input("router", Experts);
        graph.Weight("fc1", Experts, 2 * Inter, Hidden).Weight("fc1_bias", Experts, 2 * Inter);
        graph.Weight("fc2", Experts, Hidden, Inter).Weight("fc2_bias", Experts, Hidden);
        return graph.SwiGlu().Attribute("normalize_routing_weights", 1).Output("y");
    }

    private static OpGraph QMoe(DataType type, int bits, int block)
    {
        var graph = new OpGraph("QMoE", "com.microsoft", type);
        graph.Name += $", {bits} bits";
        long[] Scales(long n, long k) => block == 0 ? [Experts, n] : [Experts, n, k / block];
        graph.Input("input", Hidden).Input("router", Experts);
        graph.Codes("fc1", Experts, 2 * Inter, Hidden * bits / 8).Weight("fc1_scales", 0.01f, Scales(2 * Inter, Hidden)).Weight("fc1_bias", Experts, 2 * Inter);
        graph.Codes("fc2", Experts, Hidden, Inter * bits / 8).Weight("fc2_scales", 0.01f, Scales(Hidden, Inter)).Weight("fc2_bias", Experts, Hidden);
        graph.None().None().None();
        if (block == 0)
        {
            graph.Codes("fc1_zeros", Experts, 2 * Inter * bits / 8).Codes("fc2_zeros", Experts, Hidden * bits / 8);
        }

        graph.Attribute("expert_weight_bits", bits);
        return (block == 0 ? graph : graph.Attribute("block_size", block)).SwiGlu().Output("y");
    }

    private static OpGraph MultiHead(DataType type)
    {
        var graph = new OpGraph("MultiHeadAttention", "com.microsoft", type);
        graph.Input("query", Tokens, Heads * HeadSize).Input("key", Tokens, Heads * HeadSize).Input("value", Tokens, Heads * HeadSize);
        graph.Weight("bias", 3 * Heads * HeadSize).None().None();
        graph.Input("past_key", Heads, Past, HeadSize).Input("past_value", Heads, Past, HeadSize);
        return graph.Attribute("num_heads", Heads).Attribute("unidirectional", 1).Output("y").Output("present_key").Output("present_value");
    }

    private static OpGraph Packed(DataType type)
    {
        var graph = new OpGraph("Attention", "com.microsoft", type);
        graph.Input("input", Tokens, Hidden).Weight("weights", Hidden, 3 * Heads * HeadSize).Weight("bias", 3 * Heads * HeadSize);
        return graph.Input("mask", DataType.Int32, Tokens).Attribute("num_heads", Heads).Output("y");
    }

    private static OpGraph Onnx(DataType type)
    {
        var graph = new OpGraph("Attention", "", type);
        graph.Input("q", Heads, Tokens, HeadSize).Input("k", Heads / 2, Tokens, HeadSize).Input("v", Heads / 2, Tokens, HeadSize);
        return graph.Attribute("is_causal", 1).Output("y");
    }

    private static OpGraph Embed(DataType type)
    {
        var graph = new OpGraph("EmbedLayerNormalization", "com.microsoft", type);
        graph.Input("ids", DataType.Int32, Tokens).None().Weight("word", 2, Hidden).Weight("position", Tokens, Hidden).None();
        graph.Weight("gamma", Hidden).Weight("beta", Hidden).Output("y");
        graph._node.Output.Add("mask_index"); // which the op cannot be without
        return graph;
    }

    private OpGraph SwiGlu() => Attribute("k", 4).Attribute("activation_type", "swiglu").Attribute("swiglu_fusion", 1)
        .Attribute("activation_alpha", 1.702f).Attribute("activation_beta", 1f).Attribute("swiglu_limit", 7f);

    private OpGraph Input(string name, params long[] row) => Input(name, _type, row);

    private OpGraph Input(string name, DataType type, params long[] row)
    {
        _inputs.Add((name, type, row));
        _node.Input.Add(name);
        var shape = new TensorShapeProto();
        shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimParam = "rows" });
        shape.Dim.AddRange(row.Select(size => new TensorShapeProto.Types.Dimension { DimValue = size }));
        _graph.Input.Add(new ValueInfoProto { Name = name, Type = new TypeProto { TensorType = new() { ElemType = (int)type, Shape = shape } } });
        return this;
    }

    private OpGraph Weight(string name, params long[] dims) => Weight(name, 0.1f, dims);

    private OpGraph Weight(string name, float amplitude, long[] dims) => Constant(name, _type, dims, Bytes(_type, Count(dims), _random, amplitude));

    private OpGraph Codes(string name, params long[] dims) => Constant(name, DataType.Uint8, dims, Bytes(DataType.Uint8, Count(dims), _random, 1));

    private OpGraph Constant(string name, DataType type, long[] dims, byte[] bytes)
    {
        _node.Input.Add(name);
        var tensor = new TensorProto { Name = name, DataType = (int)type, RawData = ByteString.CopyFrom(bytes) };
        tensor.Dims.AddRange(dims);
        _graph.Initializer.Add(tensor);
        return this;
    }

    private OpGraph None()
    {
        _node.Input.Add("");
        return this;
    }

    private OpGraph Output(string name)
    {
        _node.Output.Add(name);
        _graph.Output.Add(new ValueInfoProto { Name = name, Type = new TypeProto { TensorType = new() { ElemType = (int)_type } } });
        return this;
    }

    private OpGraph Attribute(string name, object value)
    {
        _node.Attribute.Add(value switch
        {
            int number => new AttributeProto { Name = name, Type = AttributeProto.Types.AttributeType.Int, I = number },
            float number => new AttributeProto { Name = name, Type = AttributeProto.Types.AttributeType.Float, F = number },
            _ => new AttributeProto { Name = name, Type = AttributeProto.Types.AttributeType.String, S = ByteString.CopyFromUtf8((string)value) },
        });
        return this;
    }

    private static long Count(long[] dims) => dims.Aggregate(1L, (product, size) => product * size);

    private static int Size(DataType type) => type switch { DataType.Uint8 => 1, DataType.Float16 => 2, _ => 4 };

    // Numbers between -amplitude and amplitude; integers that are 0 or 1.
    private static byte[] Bytes(DataType type, long count, Random random, float amplitude)
    {
        byte[] bytes = new byte[count * Size(type)];
        if (type == DataType.Uint8)
        {
            random.NextBytes(bytes);
            return bytes;
        }

        for (int i = 0; i < count; i++)
        {
            float value = ((2 * random.NextSingle()) - 1) * amplitude;
            Span<byte> element = bytes.AsSpan(i * Size(type), Size(type));
            if (type == DataType.Int32)
            {
                MemoryMarshal.Write(element, random.Next(2));
            }
            else if (type == DataType.Float16)
            {
                MemoryMarshal.Write(element, (Half)value);
            }
            else
            {
                MemoryMarshal.Write(element, value);
            }
        }

        return bytes;
    }
}
