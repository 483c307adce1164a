using System.Buffers.Binary;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Onnx;

/// <summary>The elements of tensors that are stored inside the model file.</summary>
internal static class TensorData
{
    /// <summary>
    /// The elements as raw bytes: row-major, little-endian, whichever data field holds them.
    /// </summary>
    /// <exception cref="ModelException">The fields hold another number of elements than the shape says.</exception>
    public static ReadOnlyMemory<byte> Inline(TensorProto tensor, string source)
    {
        var type = (DataType)tensor.DataType;
        if (!ElementTypes.TryByteLength(type, tensor.Dims, out var needed))
        {
            throw new ModelException(
                $"{source}: tensor '{tensor.Name}' has the element type {tensor.DataType} or a shape that cannot be read as bytes.");
        }

        var data = tensor.HasRawData ? tensor.RawData.Memory : FromTypedField(tensor, type);
        return data.Length == needed
            ? data
            : throw new ModelException(
                $"{source}: tensor '{tensor.Name}' holds {data.Length} bytes "
                + $"where its shape [{string.Join(", ", tensor.Dims)}] needs {needed}.");
    }

    private static byte[] FromTypedField(TensorProto tensor, DataType type)
    {
        switch (type)
        {
            case DataType.Float or DataType.Complex64:
                return Pack(tensor.FloatData, 4, BinaryPrimitives.WriteSingleLittleEndian);
            case DataType.Double or DataType.Complex128:
                return Pack(tensor.DoubleData, 8, BinaryPrimitives.WriteDoubleLittleEndian);
            case DataType.Int64:
                return Pack(tensor.Int64Data, 8, BinaryPrimitives.WriteInt64LittleEndian);
            case DataType.Uint64:
                return Pack(tensor.Uint64Data, 8, BinaryPrimitives.WriteUInt64LittleEndian);
            case DataType.Uint32:
                return Pack(tensor.Uint64Data, 4, (bytes, v) => BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)v));
            case DataType.Int32:
                return Pack(tensor.Int32Data, 4, BinaryPrimitives.WriteInt32LittleEndian);
            case DataType.Int16 or DataType.Uint16 or DataType.Float16 or DataType.Bfloat16:
                return Pack(tensor.Int32Data, 2, (bytes, v) => BinaryPrimitives.WriteUInt16LittleEndian(bytes, (ushort)v));
            default:
                // One byte an entry: 8-bit types, and packed 4-bit and 2-bit types.
                return Pack(tensor.Int32Data, 1, (bytes, v) => bytes[0] = (byte)v);
        }
    }

    private delegate void Writer<T>(Span<byte> destination, T value);

    private static byte[] Pack<T>(IList<T> values, int size, Writer<T> write)
    {
        var bytes = new byte[values.Count * size];
        for (var i = 0; i < values.Count; i++)
        {
            write(bytes.AsSpan(i * size), values[i]);
        }

        return bytes;
    }
}
