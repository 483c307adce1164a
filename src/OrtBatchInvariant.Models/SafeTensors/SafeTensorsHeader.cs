using System.Buffers.Binary;
using System.Text.Json;

namespace OrtBatchInvariant.Models.SafeTensors;

/// <summary>
/// Reads the header of a safetensors file: 8 bytes of little-endian header length, then a JSON object that maps each
/// tensor's name to its <c>dtype</c>, <c>shape</c> and <c>data_offsets</c>, then the data, which the tensors cover without
/// gap or overlap. Every field is checked against the file before it is used.
/// </summary>
internal static class SafeTensorsHeader
{
    private const int LengthBytes = 8;
    private const int MaxHeaderBytes = 100_000_000;

    public static IReadOnlyList<SafeTensorInfo> Read(string path, FileStream file)
    {
        if (file.Length < LengthBytes)
        {
            throw new ModelException($"{path}: {file.Length} bytes are too short for a safetensors file; it is truncated.");
        }

        Span<byte> lengthField = stackalloc byte[LengthBytes];
        file.ReadExactly(lengthField);
        var headerLength = BinaryPrimitives.ReadUInt64LittleEndian(lengthField);
        if (headerLength > MaxHeaderBytes || headerLength > (ulong)(file.Length - LengthBytes))
        {
            throw new ModelException(
                $"{path}: the header claims {headerLength} bytes in a file of {file.Length}; it is truncated or not a safetensors file.");
        }

        var header = new byte[headerLength];
        file.ReadExactly(header);
        var dataStart = LengthBytes + (long)headerLength;
        var tensors = Parse(path, header, dataStart, file.Length - dataStart);
        CheckCoverage(path, tensors, dataStart, file.Length);
        return tensors;
    }

    private static List<SafeTensorInfo> Parse(string path, byte[] header, long dataStart, long dataLength)
    {
        var tensors = new List<SafeTensorInfo>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        try
        {
            var reader = new Utf8JsonReader(header);
            Expect(ref reader, JsonTokenType.StartObject, path, "the header is not a JSON object");
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                var name = reader.GetString()!;
                if (!names.Add(name))
                {
                    throw new ModelException($"{path}: tensor '{name}' is listed twice.");
                }

                if (name == "__metadata__")
                {
                    reader.Skip();
                }
                else
                {
                    tensors.Add(ParseTensor(ref reader, path, name, dataStart, dataLength));
                }
            }

            // Trailing spaces are allowed as padding; anything else is not.
            if (reader.TokenType != JsonTokenType.EndObject || reader.Read())
            {
                throw new ModelException($"{path}: the header is not a single JSON object.");
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new ModelException($"{path}: the header is not valid JSON ({e.Message.TrimEnd('.')}).", e);
        }

        return tensors;
    }

    private static SafeTensorInfo ParseTensor(ref Utf8JsonReader reader, string path, string name, long dataStart, long dataLength)
    {
        string? dataType = null;
        List<long>? shape = null;
        List<long>? offsets = null;
        Expect(ref reader, JsonTokenType.StartObject, path, $"tensor '{name}' is not described by a JSON object");
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var key = reader.GetString()!;
            var isRepeated = key switch
            {
                "dtype" => dataType is not null,
                "shape" => shape is not null,
                "data_offsets" => offsets is not null,
                _ => throw new ModelException($"{path}: tensor '{name}' has the unknown field '{key}'."),
            };
            if (isRepeated)
            {
                throw new ModelException($"{path}: tensor '{name}' has the field '{key}' twice.");
            }

            switch (key)
            {
                case "dtype":
                    Expect(ref reader, JsonTokenType.String, path, $"tensor '{name}' has a dtype that is not a string");
                    dataType = reader.GetString()!;
                    break;
                case "shape":
                    shape = ParseIntegers(ref reader, path, name, key);
                    break;
                default:
                    offsets = ParseIntegers(ref reader, path, name, key);
                    break;
            }
        }

        if (dataType is null || shape is null || offsets is null)
        {
            throw new ModelException($"{path}: tensor '{name}' lacks dtype, shape or data_offsets.");
        }

        var bits = SafeTensorTypes.Bits(dataType);
        if (bits == 0)
        {
            throw new ModelException($"{path}: tensor '{name}' has the unknown dtype '{dataType}'.");
        }

        if (offsets.Count != 2 || offsets[0] > offsets[1] || offsets[1] > dataLength)
        {
            throw new ModelException(
                $"{path}: tensor '{name}' has data_offsets [{string.Join(", ", offsets)}] that do not lie in the {dataLength} bytes "
                + "of data; the file is truncated or damaged.");
        }

        var needed = ByteLength(shape, bits);
        var length = offsets[1] - offsets[0];
        if (needed != length)
        {
            throw new ModelException(
                $"{path}: tensor '{name}' of type {dataType} and shape [{string.Join(", ", shape)}] cannot fill the {length} bytes "
                + "that its data_offsets give it.");
        }

        return new SafeTensorInfo(name, dataType, shape, dataStart + offsets[0], length);
    }

    /// <summary>The bytes a shape needs, or -1 if that overflows or is not a whole number of bytes.</summary>
    private static long ByteLength(List<long> shape, int bits)
    {
        UInt128 total = (UInt128)bits;
        foreach (var dim in shape)
        {
            total *= (ulong)dim;
            if (total > (UInt128)long.MaxValue * 8)
            {
                return -1;
            }
        }

        return total % 8 == 0 ? (long)(total / 8) : -1;
    }

    private static List<long> ParseIntegers(ref Utf8JsonReader reader, string path, string name, string key)
    {
        var values = new List<long>();
        Expect(ref reader, JsonTokenType.StartArray, path, $"tensor '{name}' has a {key} that is not a list");
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out var value) || value < 0)
            {
                throw new ModelException($"{path}: tensor '{name}' has a {key} entry that is not a non-negative 64-bit integer.");
            }

            values.Add(value);
        }

        return values;
    }

    private static void CheckCoverage(string path, List<SafeTensorInfo> tensors, long dataStart, long fileLength)
    {
        var position = dataStart;
        foreach (var tensor in tensors.OrderBy(t => t.Offset).ThenBy(t => t.Length))
        {
            if (tensor.Offset != position)
            {
                var what = tensor.Offset < position ? "overlaps the tensor before it" : "leaves a gap before it";
                throw new ModelException($"{path}: tensor '{tensor.Name}' {what} at byte {tensor.Offset} of the file.");
            }

            position += tensor.Length;
        }

        if (position != fileLength)
        {
            throw new ModelException($"{path}: {fileLength - position} bytes after the last tensor belong to none.");
        }
    }

    private static void Expect(ref Utf8JsonReader reader, JsonTokenType type, string path, string otherwise)
    {
        if (!reader.Read() || reader.TokenType != type)
        {
            throw new ModelException($"{path}: {otherwise}.");
        }
    }
}
