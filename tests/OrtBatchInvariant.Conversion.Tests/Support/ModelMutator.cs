using Google.Protobuf;
using OrtBatchInvariant.Models.Onnx;

namespace OrtBatchInvariant.Conversion.Tests.Support;

/// <summary>Puts random faults into a model: into its messages, into its bytes, or both.</summary>
internal sealed class ModelMutator(Random random)
{
    private static readonly string[] s_names =
        ["x", "y", "h", "w1", "w2", "a", "b", "c", "p", "q", "", "flag", "t", "e", "MatMul", "Add", "If", "Loop", "Block", "Softmax", "Reshape", "Constant", "Attention", "\0", "é",
            "../up", "/etc/hostname", "short.bin", "link.bin", "location", "offset", "length", "ort.batch_invariant", "com.microsoft", "ai.onnx", "test.local", "no.such"];

    private static readonly long[] s_numbers =
        [0, 1, -1, 2, 3, 7, 10, 13, 16, 21, 48, 127, 255, 1 << 20, int.MaxValue, int.MinValue, 1L << 40, long.MaxValue, long.MinValue];

    internal byte[] Mutate(ModelProto model)
    {
        int kind = random.Next(3);
        if (kind != 0)
        {
            for (int faults = 1 + random.Next(3); faults > 0; faults--)
            {
                Spoil(model, depth: 0);
            }
        }

        byte[] bytes = model.ToByteArray();
        if (kind != 1)
        {
            for (int faults = 1 + random.Next(4); faults > 0; faults--)
            {
                bytes = SpoilBytes(bytes);
            }
        }

        return bytes;
    }

    private byte[] SpoilBytes(byte[] bytes)
    {
        if (bytes.Length == 0)
        {
            return bytes;
        }

        // Weights are most of a file and never wrong, so the faults go to where the structure is.
        int at = random.Next(3) == 0 ? random.Next(bytes.Length) : random.Next(2) == 0 ? random.Next(Math.Min(400, bytes.Length)) : bytes.Length - 1 - random.Next(Math.Min(1500, bytes.Length));
        switch (random.Next(5))
        {
            case 0:
                bytes[at] ^= (byte)(1 << random.Next(8));
                return bytes;
            case 1:
                bytes[at] = (byte)random.Next(256);
                return bytes;
            case 2:
                return bytes[..at];
            case 3:
                int length = random.Next(Math.Min(64, bytes.Length - at));
                return [.. bytes[..at], .. bytes[at..(at + length)], .. bytes[at..]];
            default:
                return [.. bytes[..at], .. bytes[Math.Min(bytes.Length, at + 1 + random.Next(16))..]];
        }
    }

    /// <summary>Goes down into a random field, and changes what it finds there.</summary>
    private void Spoil(IMessage message, int depth)
    {
        var fields = message.Descriptor.Fields.InDeclarationOrder().Where(field => field.IsRepeated
            ? ((System.Collections.IList)field.Accessor.GetValue(message)).Count > 0 || random.Next(20) == 0
            : field.HasPresence ? field.Accessor.HasValue(message) || random.Next(20) == 0 : true).ToList();
        if (fields.Count == 0)
        {
            return;
        }

        Google.Protobuf.Reflection.FieldDescriptor field = fields[random.Next(fields.Count)];
        if (!field.IsRepeated)
        {
            object? value = field.Accessor.HasValue(message) ? field.Accessor.GetValue(message) : null;
            if (value is IMessage inner && (depth < 2 || random.Next(4) != 0))
            {
                Spoil(inner, depth + 1);
            }
            else if (random.Next(4) == 0)
            {
                field.Accessor.Clear(message);
            }
            else if (Other(field) is { } other)
            {
                field.Accessor.SetValue(message, other);
            }

            return;
        }

        var list = (System.Collections.IList)field.Accessor.GetValue(message);
        int at = list.Count == 0 ? 0 : random.Next(list.Count);
        switch (random.Next(6))
        {
            case 0 when list.Count > 0:
                list.RemoveAt(at);
                break;
            case 1 when list.Count > 0:
                list.Insert(random.Next(list.Count + 1), list[at] is IMessage element ? Clone(element) : list[at]);
                break;
            case 2 when list.Count > 1:
                int with = random.Next(list.Count);
                (list[at], list[with]) = (list[with], list[at]);
                break;
            default:
                if (list.Count > 0 && list[at] is IMessage found)
                {
                    Spoil(found, depth + 1);
                }
                else if (Other(field) is { } other)
                {
                    if (list.Count > 0)
                    {
                        list[at] = other;
                    }
                    else
                    {
                        list.Add(other);
                    }
                }

                break;
        }
    }

    private static IMessage Clone(IMessage message) => message.Descriptor.Parser.ParseFrom(message.ToByteArray());

    private object? Other(Google.Protobuf.Reflection.FieldDescriptor field) => field.FieldType switch
    {
        Google.Protobuf.Reflection.FieldType.String => s_names[random.Next(s_names.Length)],
        Google.Protobuf.Reflection.FieldType.Bytes => ByteString.CopyFromUtf8(s_names[random.Next(s_names.Length)]),
        Google.Protobuf.Reflection.FieldType.Int64 => s_numbers[random.Next(s_numbers.Length)],
        Google.Protobuf.Reflection.FieldType.UInt64 => (ulong)s_numbers[random.Next(s_numbers.Length)],
        Google.Protobuf.Reflection.FieldType.Int32 => (int)s_numbers[random.Next(s_numbers.Length)],
        Google.Protobuf.Reflection.FieldType.Float => (float)s_numbers[random.Next(s_numbers.Length)],
        Google.Protobuf.Reflection.FieldType.Double => (double)s_numbers[random.Next(s_numbers.Length)],
        Google.Protobuf.Reflection.FieldType.Message => field.MessageType.Parser.ParseFrom(ByteString.Empty),
        _ => null,
    };
}
