using System.Globalization;

namespace OrtBatchInvariant.Models.Onnx;

/// <summary>
/// Appends tensors to one external data file and records their place in the <see cref="TensorProto"/>. Offsets are
/// multiples of the page size, as the specification asks for memory mapping, and large tensors start at multiples of
/// 64 KiB, the granularity that Windows maps at.
/// </summary>
internal sealed class ExternalDataWriter(Stream stream, string location)
{
    private const long PageBytes = 4096;
    private const long LargeAlignmentBytes = 1 << 16;
    private const long LargeTensorBytes = 1 << 20;

    private static readonly byte[] _padding = new byte[LargeAlignmentBytes];

    private long _position;

    /// <summary>Writes one tensor.</summary>
    /// <param name="tensor">Its type and shape are set; its data fields are replaced by the place in the file.</param>
    /// <param name="write">Writes the elements, row-major, little-endian, exactly as many bytes as the shape needs.</param>
    public void Append(TensorProto tensor, Action<Stream> write)
    {
        if (!ElementTypes.TryByteLength((TensorProto.Types.DataType)tensor.DataType, tensor.Dims, out var length))
        {
            throw new ModelException($"{location}: tensor '{tensor.Name}' has a shape or element type that cannot be stored externally.");
        }

        var alignment = length >= LargeTensorBytes ? LargeAlignmentBytes : PageBytes;
        var offset = (_position + alignment - 1) / alignment * alignment;
        stream.Write(_padding, 0, (int)(offset - _position));

        var before = stream.Position;
        write(stream);
        var written = stream.Position - before;
        if (written != length)
        {
            throw new InvalidOperationException($"Tensor '{tensor.Name}' needs {length} bytes; {written} were written.");
        }

        _position = offset + length;
        tensor.ClearRawData();
        tensor.ExternalData.Clear();
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = location });
        tensor.ExternalData.Add(Entry("offset", offset));
        tensor.ExternalData.Add(Entry("length", length));
        tensor.DataLocation = TensorProto.Types.DataLocation.External;
    }

    private static StringStringEntryProto Entry(string key, long value) =>
        new() { Key = key, Value = value.ToString(CultureInfo.InvariantCulture) };
}
