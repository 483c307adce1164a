using System.Globalization;
using System.Text.RegularExpressions;
using Google.Protobuf;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Onnx;

/// <summary>
/// A copy of a model, in a temporary folder, for questions about its graph: weights are zeros that take no room, and every
/// node is named by its index in <see cref="GraphInspector.Nodes"/>, so that what a runtime says of a node can be led back
/// to the original, also from inside functions that it inlines. Dispose removes the folder.
/// </summary>
public sealed partial class ModelSkeleton : IDisposable
{
    // What shape inference may look at stays: shapes, axes, indices of a slice.
    private const long LargestKeptTensor = 4096;
    private const string ZerosName = "zeros";

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("ort-batch-invariant-skeleton-");

    /// <param name="model">The model; it is not changed.</param>
    public ModelSkeleton(OnnxModel model)
    {
        var proto = model.Proto.Clone();
        var index = 0;
        foreach (var node in GraphInspector.Nodes(new OnnxModel(proto)))
        {
            node.Proto.Name = string.Create(CultureInfo.InvariantCulture, $"<{index++}>");
        }

        long zeros = 0;
        foreach (var tensor in GraphWalk.Initializers(proto))
        {
            zeros = Math.Max(zeros, Empty(tensor));
        }

        foreach (var tensor in GraphWalk.Tensors(proto))
        {
            if (OnnxModel.IsExternal(tensor) && tensor.ExternalData[0].Value != ZerosName)
            {
                var bytes = model.ReadBytes(tensor);
                tensor.ExternalData.Clear();
                tensor.ClearDataLocation();
                tensor.RawData = UnsafeByteOperations.UnsafeWrap(bytes);
            }
        }

        Path = System.IO.Path.Combine(_folder.FullName, "skeleton.onnx");
        try
        {
            if (zeros > 0)
            {
                // A hole in the file: it has a length, and no blocks on the disk.
                using var file = File.Create(System.IO.Path.Combine(_folder.FullName, ZerosName));
                file.SetLength(zeros);
            }

            using var stream = File.Create(Path);
            proto.WriteTo(stream);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The <c>.onnx</c> file.</summary>
    public string Path { get; }

    /// <summary>The index of the node that a runtime calls by this name; null for one that the runtime made itself.</summary>
    public static int? IndexOf(string nodeName) =>
        Marker().Match(nodeName) is { Success: true } match
        && int.TryParse(match.Groups[1].Value, NumberStyles.None, CultureInfo.InvariantCulture, out var index)
            ? index
            : null;

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_folder.Exists)
        {
            _folder.Delete(recursive: true);
            _folder.Refresh();
        }
    }

    // A runtime may put the name of a function or of a call before it.
    [GeneratedRegex(@"<(\d+)>", RegexOptions.RightToLeft)]
    private static partial Regex Marker();

    private static long Empty(TensorProto tensor)
    {
        if (!ElementTypes.TryByteLength((DataType)tensor.DataType, tensor.Dims, out var bytes) || bytes <= LargestKeptTensor)
        {
            return 0;
        }

        tensor.ClearRawData();
        tensor.FloatData.Clear();
        tensor.Int32Data.Clear();
        tensor.Int64Data.Clear();
        tensor.DoubleData.Clear();
        tensor.Uint64Data.Clear();
        tensor.ExternalData.Clear();
        tensor.DataLocation = TensorProto.Types.DataLocation.External;
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = ZerosName });
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "length", Value = bytes.ToString(CultureInfo.InvariantCulture) });
        return bytes;
    }
}
