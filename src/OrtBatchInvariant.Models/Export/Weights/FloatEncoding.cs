using System.Runtime.InteropServices;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Export.Weights;

/// <summary>Rounds fp32 values to the element type of a graph: fp32, fp16 or bf16, nearest, ties to even.</summary>
internal static class FloatEncoding
{
    public static int Size(DataType type) => type == DataType.Float ? 4 : 2;

    /// <summary>Writes values as little-endian elements.</summary>
    /// <exception cref="ModelException">A finite value exceeds the range of fp16.</exception>
    public static void Encode(ReadOnlySpan<float> values, DataType type, Span<byte> destination, string tensorName)
    {
        switch (type)
        {
            case DataType.Float:
                MemoryMarshal.AsBytes(values).CopyTo(destination);
                break;
            case DataType.Float16:
                var halves = MemoryMarshal.Cast<byte, Half>(destination);
                for (var i = 0; i < values.Length; i++)
                {
                    halves[i] = ToHalf(values[i], tensorName);
                }

                break;
            case DataType.Bfloat16:
                var words = MemoryMarshal.Cast<byte, ushort>(destination);
                for (var i = 0; i < values.Length; i++)
                {
                    words[i] = ToBfloat16(values[i]);
                }

                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(type));
        }
    }

    /// <summary>The value that <see cref="Encode"/> stores, as fp32.</summary>
    public static float Round(float value, DataType type, string tensorName) => type switch
    {
        DataType.Float16 => (float)ToHalf(value, tensorName),
        DataType.Bfloat16 => BitConverter.UInt32BitsToSingle((uint)ToBfloat16(value) << 16),
        _ => value,
    };

    private static Half ToHalf(float value, string tensorName)
    {
        var half = (Half)value;
        return Half.IsInfinity(half) && float.IsFinite(value)
            ? throw new ModelException($"Tensor '{tensorName}' holds {value}, beyond the range of fp16; export it in bf16 or fp32.")
            : half;
    }

    private static ushort ToBfloat16(float value)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        if (float.IsNaN(value))
        {
            return (ushort)((bits >> 16) | 0x40);
        }

        return (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }
}
