using Google.Protobuf;
using AttributeType = OrtBatchInvariant.Models.Onnx.AttributeProto.Types.AttributeType;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Onnx;

/// <summary>An attribute of a node.</summary>
public sealed partial class AttributeProto
{
    /// <summary>A whole number.</summary>
    public static AttributeProto Of(string name, long value) => new() { Name = name, Type = AttributeType.Int, I = value };

    /// <summary>A floating-point number.</summary>
    public static AttributeProto Of(string name, float value) => new() { Name = name, Type = AttributeType.Float, F = value };

    /// <summary>A text.</summary>
    public static AttributeProto Of(string name, string value) => new() { Name = name, Type = AttributeType.String, S = ByteString.CopyFromUtf8(value) };

    /// <summary>Whole numbers.</summary>
    public static AttributeProto Of(string name, long[] values) => new() { Name = name, Type = AttributeType.Ints, Ints = { values } };

    /// <summary>Floating-point numbers.</summary>
    public static AttributeProto Of(string name, float[] values) => new() { Name = name, Type = AttributeType.Floats, Floats = { values } };

    /// <summary>A tensor.</summary>
    public static AttributeProto Of(string name, TensorProto value) => new() { Name = name, Type = AttributeType.Tensor, T = value };

    /// <summary>A graph.</summary>
    public static AttributeProto Of(string name, GraphProto value) => new() { Name = name, Type = AttributeType.Graph, G = value };
}

/// <summary>A value of a graph: its name and type.</summary>
public sealed partial class ValueInfoProto
{
    /// <summary>A tensor.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="type">The type of its elements.</param>
    /// <param name="shape">Its dimensions: sizes or names.</param>
    public static ValueInfoProto OfTensor(string name, DataType type, IEnumerable<TensorShapeProto.Types.Dimension> shape) => new()
    {
        Name = name,
        Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)type, Shape = new TensorShapeProto { Dim = { shape } } } },
    };
}
