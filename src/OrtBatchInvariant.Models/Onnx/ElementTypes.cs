using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Onnx;

/// <summary>Sizes and names of ONNX element types.</summary>
public static class ElementTypes
{
    /// <summary>Bits of one stored element; 0 for strings and unknown types, which have no fixed size.</summary>
    public static int Bits(DataType type) => type switch
    {
        DataType.Uint2 or DataType.Int2 => 2,
        DataType.Uint4 or DataType.Int4 or DataType.Float4E2M1 => 4,
        DataType.Uint8 or DataType.Int8 or DataType.Bool or DataType.Float8E4M3Fn or DataType.Float8E4M3Fnuz
            or DataType.Float8E5M2 or DataType.Float8E5M2Fnuz or DataType.Float8E8M0 => 8,
        DataType.Uint16 or DataType.Int16 or DataType.Float16 or DataType.Bfloat16 => 16,
        DataType.Float or DataType.Int32 or DataType.Uint32 => 32,
        DataType.Double or DataType.Int64 or DataType.Uint64 or DataType.Complex64 => 64,
        DataType.Complex128 => 128,
        _ => 0,
    };

    /// <summary>The name ONNX documents use, such as <c>float</c>, <c>float16</c>, <c>int4</c>.</summary>
    public static string Name(DataType type) => type.ToString().ToLowerInvariant();

    /// <summary>
    /// Bytes that the elements of a tensor take, packed types rounded up to a whole byte.
    /// </summary>
    /// <returns>False if a dimension is negative, the type has no fixed size, or the product does not fit.</returns>
    public static bool TryByteLength(DataType type, IEnumerable<long> dims, out long bytes)
    {
        bytes = 0;
        var bits = Bits(type);
        if (bits == 0)
        {
            return false;
        }

        UInt128 count = 1;
        var empty = false;
        foreach (var dim in dims)
        {
            if (dim < 0)
            {
                return false;
            }

            empty |= dim == 0;
            count *= (ulong)dim;
            if (count > long.MaxValue)
            {
                // A later zero would make the tensor empty, but no writer has a reason for such a shape.
                return false;
            }
        }

        var totalBits = empty ? 0 : count * (UInt128)bits;
        var total = (totalBits + 7) / 8;
        if (total > long.MaxValue)
        {
            return false;
        }

        bytes = (long)total;
        return true;
    }
}
