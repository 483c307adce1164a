using System.Buffers.Binary;
using System.Globalization;
using Google.Protobuf;
using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>A dimension: a size, or a name for one that is known when the model runs.</summary>
internal readonly record struct Dim(long Size, string? Name)
{
    public static implicit operator Dim(long size) => new(size, null);

    public static implicit operator Dim(string name) => new(0, name);
}

/// <summary>Builds a graph node by node. Values are named after the node that makes them: <c>{node}/output_{i}</c>.</summary>
internal sealed class OnnxGraphBuilder
{
    private readonly HashSet<string> _constants = new(StringComparer.Ordinal);

    public GraphProto Graph { get; } = new() { Name = "main_graph" };

    public List<PendingTensor> Weights { get; } = [];

    public void Input(string name, DataType type, params ReadOnlySpan<Dim> shape) => Graph.Input.Add(ValueInfo(name, type, shape));

    public void Output(string name, DataType type, params ReadOnlySpan<Dim> shape) => Graph.Output.Add(ValueInfo(name, type, shape));

    /// <summary>States type and shape of an intermediate value.</summary>
    public void Value(string name, DataType type, params ReadOnlySpan<Dim> shape) => Graph.ValueInfo.Add(ValueInfo(name, type, shape));

    /// <summary>Adds a node.</summary>
    public void Node(
        string name,
        string opType,
        string domain,
        IEnumerable<string> inputs,
        IEnumerable<string> outputs,
        params ReadOnlySpan<AttributeProto> attributes)
    {
        var node = new NodeProto { Name = name, OpType = opType, Domain = domain };
        node.Input.AddRange(inputs);
        node.Output.AddRange(outputs);
        foreach (var attribute in attributes)
        {
            node.Attribute.Add(attribute);
        }

        Graph.Node.Add(node);
    }

    /// <summary>Adds a node with one output of a known type and shape.</summary>
    /// <returns>The output's name.</returns>
    public string Node(
        string name,
        string opType,
        string domain,
        IEnumerable<string> inputs,
        DataType type,
        Dim[] shape,
        params ReadOnlySpan<AttributeProto> attributes)
    {
        var output = $"{name}/output_0";
        Node(name, opType, domain, inputs, [output], attributes);
        Value(output, type, shape);
        return output;
    }

    /// <summary>A scalar int64 constant, shared by all who ask for the same one.</summary>
    public string Constant(long value) => Constant(value.ToString(CultureInfo.InvariantCulture), [], [value]);

    /// <summary>A one-dimensional int64 constant, shared by all who ask for the same one.</summary>
    public string Constant(long[] values) =>
        Constant($"[{string.Join(", ", values.Select(v => v.ToString(CultureInfo.InvariantCulture)))}]", [values.Length], values);

    /// <summary>A scalar constant of a float type, shared by all who ask for the same one.</summary>
    public string Constant(float value, DataType type)
    {
        var bytes = new byte[FloatEncoding.Size(type)];
        var text = value.ToString(CultureInfo.InvariantCulture);
        FloatEncoding.Encode([value], type, bytes, text);
        return Constant($"{type.ToString().ToUpperInvariant()}/{text}", type, [], bytes);
    }

    /// <summary>Registers an initializer whose data is written later.</summary>
    public TensorProto Initializer(string name, DataType type, params ReadOnlySpan<long> dims)
    {
        var tensor = new TensorProto { Name = name, DataType = (int)type };
        foreach (var dim in dims)
        {
            tensor.Dims.Add(dim);
        }

        Graph.Initializer.Add(tensor);
        return tensor;
    }

    private string Constant(string text, long[] dims, long[] values)
    {
        var bytes = new byte[values.Length * sizeof(long)];
        for (var i = 0; i < values.Length; i++)
        {
            BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(i * sizeof(long)), values[i]);
        }

        return Constant($"INT64/{text}", DataType.Int64, dims, bytes);
    }

    private string Constant(string text, DataType type, long[] dims, byte[] bytes)
    {
        var name = $"/model/constants/{text}";
        if (!_constants.Add(name))
        {
            return name;
        }

        var tensor = new TensorProto { Name = name, DataType = (int)type, RawData = UnsafeByteOperations.UnsafeWrap(bytes) };
        tensor.Dims.AddRange(dims);
        Node(
            $"/model/constant_nodes/{text}", "Constant", string.Empty, [], [name], AttributeProto.Of("value", tensor));
        Graph.ValueInfo.Add(ValueInfo(name, type, [.. dims.Select(d => (Dim)d)]));
        return name;
    }

    private static ValueInfoProto ValueInfo(string name, DataType type, ReadOnlySpan<Dim> shape)
    {
        var dimensions = new List<TensorShapeProto.Types.Dimension>();
        foreach (var dim in shape)
        {
            dimensions.Add(dim.Name is null ? new() { DimValue = dim.Size } : new() { DimParam = dim.Name });
        }

        return ValueInfoProto.OfTensor(name, type, dimensions);
    }
}
