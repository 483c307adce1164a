using Google.Protobuf;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Conversion.Tests.Support;

/// <summary>Small models, written out.</summary>
internal static class Graphs
{
    internal static ModelProto Model(GraphProto graph, int opset = 21)
    {
        var model = new ModelProto { IrVersion = 10, Graph = graph };
        model.OpsetImport.Add(new OperatorSetIdProto { Version = opset });
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "com.microsoft", Version = 1 });
        return model;
    }

    internal static GraphProto Graph(string name, ValueInfoProto[] inputs, ValueInfoProto[] outputs, params NodeProto[] nodes)
    {
        var graph = new GraphProto { Name = name };
        graph.Input.AddRange(inputs);
        graph.Output.AddRange(outputs);
        graph.Node.AddRange(nodes);
        return graph;
    }

    internal static NodeProto Node(string name, string op, string[] inputs, string[] outputs, params (string, object)[] attributes)
    {
        string[] parts = op.Split(':');
        var node = new NodeProto { Name = name, OpType = parts[^1] };
        if (parts.Length > 1)
        {
            node.Domain = parts[0];
        }

        node.Input.AddRange(inputs);
        node.Output.AddRange(outputs);
        node.Attribute.AddRange(attributes.Select(pair => OnnxAttribute.Of(pair.Item1, pair.Item2)));
        return node;
    }

    /// <summary>A value of a type, and dimensions that are numbers or names; null for an unknown shape.</summary>
    internal static ValueInfoProto Value(string name, DataType type, params object[]? dims)
    {
        var info = new ValueInfoProto { Name = name, Type = new TypeProto { TensorType = new() { ElemType = (int)type } } };
        if (dims is not null)
        {
            info.Type.TensorType.Shape = new TensorShapeProto();
            info.Type.TensorType.Shape.Dim.AddRange(dims.Select(dim => dim is string text
                ? new TensorShapeProto.Types.Dimension { DimParam = text }
                : new() { DimValue = Convert.ToInt64(dim, System.Globalization.CultureInfo.InvariantCulture) }));
        }

        return info;
    }

    internal static TensorProto Floats(string name, long[] dims, params float[] values) => new()
    {
        Name = name,
        DataType = (int)DataType.Float,
        Dims = { dims },
        RawData = ByteString.CopyFrom(System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan())),
    };

    internal static TensorProto RandomFloats(string name, Random random, params long[] dims) =>
        Floats(name, dims, [.. Enumerable.Range(0, (int)dims.Aggregate(1L, (a, b) => a * b)).Select(_ => (float)((random.NextDouble() * 2) - 1))]);

    internal static TensorProto Longs(string name, long[] dims, params long[] values) => new()
    {
        Name = name,
        DataType = (int)DataType.Int64,
        Dims = { dims },
        RawData = ByteString.CopyFrom(System.Runtime.InteropServices.MemoryMarshal.AsBytes(values.AsSpan())),
    };
}
