using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace OrtBatchInvariant.Models.SafeTensors;

/// <summary>The element types of the safetensors format.</summary>
internal static class SafeTensorTypes
{
    /// <summary>Bits of one element; 0 if the type is unknown.</summary>
    public static int Bits(string dataType) => dataType switch
    {
        "F4" => 4,
        "F6_E2M3" or "F6_E3M2" => 6,
        "BOOL" or "U8" or "I8" or "F8_E4M3" or "F8_E5M2" or "F8_E8M0" or "F8_E4M3FNUZ" or "F8_E5M2FNUZ" => 8,
        "U16" or "I16" or "F16" or "BF16" => 16,
        "U32" or "I32" or "F32" => 32,
        "U64" or "I64" or "F64" or "C64" => 64,
        _ => 0,
    };

    /// <summary>Whether <see cref="ToSingle"/> reads the type.</summary>
    public static bool IsReadable(string dataType) => dataType is "F32" or "F16" or "BF16";

    /// <summary>Converts elements to fp32; exact for all three types.</summary>
    public static void ToSingle(string dataType, ReadOnlySpan<byte> source, Span<float> destination)
    {
        switch (dataType)
        {
            case "F32":
                source.CopyTo(MemoryMarshal.AsBytes(destination));
                break;
            case "F16":
                var halves = MemoryMarshal.Cast<byte, Half>(source);
                for (var i = 0; i < halves.Length; i++)
                {
                    destination[i] = (float)halves[i];
                }

                break;
            default:
                var bits = MemoryMarshal.Cast<byte, ushort>(source);
                var target = MemoryMarshal.Cast<float, uint>(destination);
                for (var i = 0; i < bits.Length; i++)
                {
                    target[i] = (uint)bits[i] << 16;
                }

                break;
        }
    }
}
