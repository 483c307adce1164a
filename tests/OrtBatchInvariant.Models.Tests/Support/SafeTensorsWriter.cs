using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Nodes;

namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>Writes safetensors files, true ones and lying ones.</summary>
internal static class SafeTensorsWriter
{
    /// <summary>Writes fp32 values in the given type.</summary>
    public static void Write(string path, string dataType, IEnumerable<(string Name, long[] Shape, float[] Values)> tensors)
    {
        var header = new JsonObject { ["__metadata__"] = new JsonObject { ["format"] = "pt" } };
        var data = new MemoryStream();
        foreach (var (name, shape, values) in tensors)
        {
            var begin = data.Length;
            foreach (var value in values)
            {
                data.Write(Encode(dataType, value));
            }

            header[name] = Entry(dataType, shape, begin, data.Length);
        }

        WriteRaw(path, header.ToJsonString(), data.ToArray());
    }

    /// <summary>Writes any header text before any data.</summary>
    public static void WriteRaw(string path, string header, byte[] data, ulong? headerLength = null)
    {
        var text = Encoding.UTF8.GetBytes(header);
        using var file = File.Create(path);
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(length, headerLength ?? (ulong)text.Length);
        file.Write(length);
        file.Write(text);
        file.Write(data);
    }

    public static JsonObject Entry(string dataType, long[] shape, long begin, long end) => new()
    {
        ["dtype"] = dataType,
        ["shape"] = new JsonArray([.. shape.Select(d => (JsonNode)d)]),
        ["data_offsets"] = new JsonArray(begin, end),
    };

    /// <summary>What a value becomes in a type.</summary>
    public static float Rounded(string dataType, float value) => dataType switch
    {
        "F16" => (float)(Half)value,
        "BF16" => BitConverter.UInt32BitsToSingle(Bfloat16Bits(value) << 16),
        _ => value,
    };

    private static byte[] Encode(string dataType, float value) => dataType switch
    {
        "F32" => BitConverter.GetBytes(value),
        "F16" => BitConverter.GetBytes((Half)value),
        "BF16" => BitConverter.GetBytes((ushort)Bfloat16Bits(value)),
        _ => throw new ArgumentOutOfRangeException(nameof(dataType)),
    };

    private static uint Bfloat16Bits(float value)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    }
}
