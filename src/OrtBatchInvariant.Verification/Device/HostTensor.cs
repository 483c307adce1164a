using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>A tensor's bytes.</summary>
internal sealed record HostTensor(TensorElementType Type, long[] Shape, byte[] Bytes)
{
    public int ElementBytes => Bytes.Length == 0 ? 1 : Bytes.Length / (int)Shape.Aggregate(1L, (product, size) => product * size);

    /// <summary>Null for what is no tensor of numbers.</summary>
    public static HostTensor? From(OrtValue value)
    {
        if (!value.IsTensor)
        {
            return null;
        }

        OrtTensorTypeAndShapeInfo info = value.GetTensorTypeAndShape();
        return info.ElementDataType == TensorElementType.String
            ? null
            : new HostTensor(info.ElementDataType, info.Shape, info.ElementCount == 0 ? [] : value.GetTensorMutableRawData().ToArray());
    }

    public OrtValue ToOrtValue()
    {
        OrtValue value = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, Type, Shape);
        if (Bytes.Length > 0)
        {
            Bytes.CopyTo(value.GetTensorMutableRawData());
        }

        return value;
    }

    public HostTensor Copy() => this with { Bytes = [.. Bytes] };
}
