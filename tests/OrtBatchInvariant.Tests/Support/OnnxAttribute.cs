using OrtBatchInvariant.Models.Onnx;

namespace OrtBatchInvariant.Tests.Support;

/// <summary>Attributes of ONNX nodes from plain values.</summary>
internal static class OnnxAttribute
{
    internal static AttributeProto Of(string name, object value) => value switch
    {
        int number => AttributeProto.Of(name, number),
        float number => AttributeProto.Of(name, number),
        string text => AttributeProto.Of(name, text),
        long[] numbers => AttributeProto.Of(name, numbers),
        float[] numbers => AttributeProto.Of(name, numbers),
        GraphProto graph => AttributeProto.Of(name, graph),
        TensorProto tensor => AttributeProto.Of(name, tensor),
        _ => throw new ArgumentOutOfRangeException(nameof(value), value, "no test uses this type of attribute"),
    };
}
