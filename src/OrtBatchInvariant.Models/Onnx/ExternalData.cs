using System.Globalization;

namespace OrtBatchInvariant.Models.Onnx;

/// <summary>Where the bytes of an externally stored tensor lie. Checked: inside the model's folder and inside the file.</summary>
/// <param name="FilePath">Full path of the data file.</param>
/// <param name="Offset">First byte.</param>
/// <param name="Length">Number of bytes, equal to what the tensor's type and shape need.</param>
internal readonly record struct ExternalData(string FilePath, long Offset, long Length)
{
    /// <summary>Reads and checks the <c>external_data</c> entries of a tensor.</summary>
    /// <param name="tensor">A tensor whose data location is EXTERNAL.</param>
    /// <param name="modelPath">The model file; data may lie in its folder and below.</param>
    /// <exception cref="ModelException">An entry is missing, malformed, or points where it must not.</exception>
    public static ExternalData Resolve(TensorProto tensor, string modelPath)
    {
        string? location = null;
        long offset = 0;
        long? length = null;
        foreach (var entry in tensor.ExternalData)
        {
            switch (entry.Key)
            {
                case "location":
                    location = entry.Value;
                    break;
                case "offset":
                    offset = ParseCount(entry, tensor, modelPath);
                    break;
                case "length":
                    length = ParseCount(entry, tensor, modelPath);
                    break;
            }
        }

        if (string.IsNullOrEmpty(location))
        {
            throw Error(tensor, modelPath, "has external data without a location");
        }

        var filePath = ResolveLocation(location, tensor, modelPath);
        if (!ElementTypes.TryByteLength((TensorProto.Types.DataType)tensor.DataType, tensor.Dims, out var needed))
        {
            throw Error(tensor, modelPath, "has a shape or element type that cannot be stored externally");
        }

        if (length is { } stated && stated != needed)
        {
            throw Error(tensor, modelPath, $"states {stated} bytes of external data where its shape needs {needed}");
        }

        var fileLength = new FileInfo(filePath).Length;
        if (offset > fileLength || needed > fileLength - offset)
        {
            throw Error(
                tensor,
                modelPath,
                $"needs bytes {offset} to {(Int128)offset + needed} of '{location}', which has only {fileLength}; "
                + "the file is truncated or not the model's");
        }

        return new ExternalData(filePath, offset, needed);
    }

    private static string ResolveLocation(string location, TensorProto tensor, string modelPath)
    {
        // Both separators count on every system, so that a file made for one cannot escape on the other.
        var parts = location.Split('/', '\\');
        var isRooted = parts[0].Length == 0 || parts[0].Contains(':', StringComparison.Ordinal);
        if (isRooted || parts.Contains("..") || location.Contains('\0', StringComparison.Ordinal))
        {
            throw Error(
                tensor, modelPath, $"names the external data file '{location}', which is outside the model's folder; it was not opened");
        }

        var folder = Path.GetDirectoryName(Path.GetFullPath(modelPath))!;
        var filePath = Path.Combine([folder, .. parts]);
        if (!File.Exists(filePath))
        {
            throw Error(tensor, modelPath, $"needs the external data file '{location}', which is not beside the model");
        }

        // Download caches keep a model as links into a store; then the model file is itself a link. A plain model file
        // with a link to elsewhere beside it is something else.
        var modelIsLink = new FileInfo(modelPath).LinkTarget is not null;
        if (!modelIsLink && !StaysInside(folder, filePath))
        {
            throw Error(
                tensor, modelPath, $"names the external data file '{location}', a link out of the model's folder; it was not opened");
        }

        return filePath;
    }

    private static bool StaysInside(string folder, string filePath)
    {
        var path = filePath;
        while (path.Length > folder.Length)
        {
            FileSystemInfo info = Directory.Exists(path) ? new DirectoryInfo(path) : new FileInfo(path);
            if (info.LinkTarget is not null)
            {
                var target = info.ResolveLinkTarget(returnFinalTarget: true)?.FullName;
                if (target is null || !target.StartsWith(folder + Path.DirectorySeparatorChar, StringComparison.Ordinal))
                {
                    return false;
                }
            }

            path = Path.GetDirectoryName(path)!;
        }

        return true;
    }

    private static long ParseCount(StringStringEntryProto entry, TensorProto tensor, string modelPath) =>
        long.TryParse(entry.Value, NumberStyles.None, CultureInfo.InvariantCulture, out var value)
            ? value
            : throw Error(tensor, modelPath, $"has the external data {entry.Key} '{entry.Value}', which is not a byte count");

    private static ModelException Error(TensorProto tensor, string modelPath, string what) =>
        new($"{modelPath}: tensor '{tensor.Name}' {what}.");
}
