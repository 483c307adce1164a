using Google.Protobuf;
using OrtBatchInvariant.Models.Onnx;
using AttributeType = OrtBatchInvariant.Models.Onnx.AttributeProto.Types.AttributeType;

namespace OrtBatchInvariant.Tests.Support;

/// <summary>Attributes of ONNX nodes from plain values.</summary>
internal static class OnnxAttribute
{
    internal static AttributeProto Of(string name, object value) => value switch
    {
        int number => new() { Name = name, Type = AttributeType.Int, I = number },
        float number => new() { Name = name, Type = AttributeType.Float, F = number },
        string text => new() { Name = name, Type = AttributeType.String, S = ByteString.CopyFromUtf8(text) },
        long[] numbers => new() { Name = name, Type = AttributeType.Ints, Ints = { numbers } },
        float[] numbers => new() { Name = name, Type = AttributeType.Floats, Floats = { numbers } },
        GraphProto graph => new() { Name = name, Type = AttributeType.Graph, G = graph },
        TensorProto tensor => new() { Name = name, Type = AttributeType.Tensor, T = tensor },
        _ => throw new ArgumentOutOfRangeException(nameof(value), value, "no test uses this type of attribute"),
    };
}
