using System.Runtime.InteropServices;
using Google.Protobuf;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>Builds a model of one node, with its weights inside, and of what computes its inputs.</summary>
internal sealed class NodeModel
{
    public const string Microsoft = "com.microsoft";
    public const long Rows = -1;

    private readonly long _opset;
    private readonly GraphProto _graph = new() { Name = "graph" };
    private readonly NodeProto _node;

    public NodeModel(string domain, string op, long opset = 21)
    {
        _opset = opset;
        _node = new NodeProto { Name = op, OpType = op, Domain = domain };
        _graph.Node.Add(_node);
    }

    /// <param name="name">The input's name; empty to leave an optional input out.</param>
    /// <param name="type">Its type.</param>
    /// <param name="dims">Its shape; 0 for a dimension that differs from run to run, <see cref="Rows"/> for one that other tensors share.</param>
    public NodeModel Input(string name, DataType type = DataType.Float, params long[] dims)
    {
        _node.Input.Add(name);
        return name.Length == 0 || _graph.Node.Any(node => node.Output.Contains(name)) ? this : Given(name, type, dims);
    }

    /// <summary>A value that a node of the ONNX domain ahead of this one computes; <see cref="Input"/> by its name alone reads it.</summary>
    public NodeModel Computed(string name, string op, params string[] inputs)
    {
        _graph.Node.Insert(_graph.Node.Count - 1, new NodeProto { Name = name, OpType = op, Input = { inputs }, Output = { name } });
        return this;
    }

    /// <summary>An input of the model that only nodes ahead of this one read.</summary>
    public NodeModel Given(string name, DataType type, params long[] dims)
    {
        _graph.Input.Add(Value(name, type, dims));
        return this;
    }

    public NodeModel Weight<T>(string name, DataType type, ReadOnlySpan<T> values, params long[] dims)
        where T : unmanaged
    {
        var tensor = new TensorProto { Name = name, DataType = (int)type, RawData = ByteString.CopyFrom(MemoryMarshal.AsBytes(values)) };
        tensor.Dims.AddRange(dims);
        _graph.Initializer.Add(tensor);
        _node.Input.Add(name);
        return this;
    }

    /// <param name="name">The output's name; empty to leave an optional output out.</param>
    /// <param name="type">Its type.</param>
    /// <param name="dims">Its shape, as of an input.</param>
    public NodeModel Output(string name, DataType type = DataType.Float, params long[] dims)
    {
        _node.Output.Add(name);
        if (name.Length > 0)
        {
            _graph.Output.Add(Value(name, type, dims));
        }

        return this;
    }

    public NodeModel Attribute(string name, long value)
    {
        _node.Attribute.Add(AttributeProto.Of(name, value));
        return this;
    }

    public NodeModel Attribute(string name, float value)
    {
        _node.Attribute.Add(AttributeProto.Of(name, value));
        return this;
    }

    public NodeModel Attribute(string name, string value)
    {
        _node.Attribute.Add(AttributeProto.Of(name, value));
        return this;
    }

    public byte[] Build()
    {
        var model = new ModelProto { IrVersion = 10, Graph = _graph, ProducerName = "ort-batch-invariant" };
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = _opset });
        if (_node.Domain.Length > 0)
        {
            model.OpsetImport.Add(new OperatorSetIdProto { Domain = _node.Domain, Version = 1 });
        }

        return model.ToByteArray();
    }

    private static ValueInfoProto Value(string name, DataType type, long[] dims) => ValueInfoProto.OfTensor(name, type, dims.Select(
        (size, axis) => size > 0 ? new TensorShapeProto.Types.Dimension { DimValue = size }
            : new() { DimParam = size == Rows ? "rows" : $"{name}_{axis}" }));
}
