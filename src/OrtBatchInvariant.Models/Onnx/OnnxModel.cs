using Google.Protobuf;
using OrtBatchInvariant.Models.Files;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Onnx;

/// <summary>How <see cref="OnnxModel.Save"/> stores tensors.</summary>
public sealed record OnnxSaveOptions
{
    /// <summary>
    /// Whether tensors go to a data file beside the model, named like it with <c>.data</c> appended (default). Otherwise
    /// everything goes into the model file, which ONNX limits to 2 GiB.
    /// </summary>
    public bool ExternalData { get; init; } = true;

    /// <summary>Tensors of fewer bytes stay inside the model file. Default 1024.</summary>
    public long MinExternalBytes { get; init; } = 1024;
}

/// <summary>
/// An ONNX model file. Weights that lie in external data files are left there and read on demand, so a model of any size
/// can be opened, inspected, changed and written again without holding them in memory.
/// </summary>
public sealed class OnnxModel
{
    private const string UnsavedSource = "model";

    private OnnxModel(ModelProto proto, string? path)
    {
        Proto = proto;
        Path = path;
    }

    /// <summary>Wraps a model made in memory.</summary>
    /// <param name="proto">The model; its tensors hold their data themselves.</param>
    public OnnxModel(ModelProto proto)
        : this(proto, path: null)
    {
    }

    /// <summary>The messages of the model, free to be changed.</summary>
    public ModelProto Proto { get; }

    /// <summary>The file it was loaded from, or null.</summary>
    public string? Path { get; }

    /// <summary>
    /// Every dense tensor of the model: initializers and tensor attributes, of the main graph, of subgraphs and functions.
    /// </summary>
    public IEnumerable<TensorProto> Tensors => GraphWalk.Tensors(Proto);

    /// <summary>Reads a model file and checks where its tensors are stored; weights in external files are not read.</summary>
    /// <param name="path">The <c>.onnx</c> file.</param>
    /// <exception cref="ModelException">
    /// The file is missing, truncated or not an ONNX model, or a tensor's data is not what its shape says, or lies outside
    /// the model's folder.
    /// </exception>
    public static OnnxModel Load(string path)
    {
        ModelProto proto;
        try
        {
            using var stream = File.OpenRead(path);
            if (stream.Length > int.MaxValue)
            {
                throw new ModelException($"{path}: a model file cannot exceed 2 GiB; larger models keep weights in external data files.");
            }

            proto = ModelProto.Parser.ParseFrom(stream);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new ModelException($"{path}: not an ONNX model, or truncated.", e);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new ModelException($"{path}: no such model file.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ModelException($"{path}: the model file cannot be read ({e.Message}).", e);
        }

        if (proto.Graph is null || proto.OpsetImport.Count == 0)
        {
            throw new ModelException($"{path}: not an ONNX model, or truncated: it holds no graph or no operator set.");
        }

        var model = new OnnxModel(proto, path);
        foreach (var tensor in model.Tensors)
        {
            model.CheckStorage(tensor);
        }

        return model;
    }

    /// <summary>The external data files, relative to the model's folder, each once.</summary>
    public IReadOnlyList<string> ExternalFiles() =>
        [.. Tensors.Where(IsExternal).Select(Locate).Select(data => data.FilePath).Distinct()
            .Select(file => System.IO.Path.GetRelativePath(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(Path!))!, file))];

    /// <summary>The elements of a tensor: row-major, little-endian, packed types packed, wherever they are stored.</summary>
    /// <param name="tensor">One of <see cref="Tensors"/>; not of type string.</param>
    public Stream OpenRead(TensorProto tensor)
    {
        if (!IsExternal(tensor))
        {
            return new MemoryStream(TensorData.Inline(tensor, Path ?? UnsavedSource).ToArray(), writable: false);
        }

        var data = Locate(tensor);
        var stream = new FileStream(data.FilePath, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 1 << 16);
        return new SectionStream(stream, data.Offset, data.Length);
    }

    /// <summary>As <see cref="OpenRead"/>, into memory.</summary>
    public byte[] ReadBytes(TensorProto tensor)
    {
        using var stream = OpenRead(tensor);
        if (stream.Length > Array.MaxLength)
        {
            throw new ModelException($"{Path ?? UnsavedSource}: tensor '{tensor.Name}' of {stream.Length} bytes is too large for memory.");
        }

        var bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    /// <summary>
    /// Writes the model. Weights are streamed. Both files are written under hidden names and renamed when complete, the
    /// model file last; this object is not changed.
    /// </summary>
    /// <param name="path">The <c>.onnx</c> file to write; an existing one is replaced.</param>
    /// <param name="options">Where tensors go.</param>
    /// <exception cref="ModelException">A tensor's data cannot be read, or the model does not fit into one file.</exception>
    public void Save(string path, OnnxSaveOptions? options = null)
    {
        options ??= new OnnxSaveOptions();
        var copy = Proto.Clone();
        using var dataFile = options.ExternalData ? new AtomicFile(path + ".data") : null;
        var writer = dataFile is null ? null : new ExternalDataWriter(dataFile.Stream, System.IO.Path.GetFileName(path) + ".data");
        var wroteExternal = false;
        foreach (var tensor in GraphWalk.Tensors(copy))
        {
            if (!IsExternal(tensor) && !tensor.HasRawData)
            {
                continue;
            }

            if (writer is not null && ByteLength(tensor) >= options.MinExternalBytes)
            {
                using var source = OpenRead(tensor);
                writer.Append(tensor, source.CopyTo);
                wroteExternal = true;
            }
            else if (IsExternal(tensor))
            {
                var bytes = ReadBytes(tensor);
                tensor.ExternalData.Clear();
                tensor.ClearDataLocation();
                tensor.RawData = UnsafeByteOperations.UnsafeWrap(bytes);
            }
        }

        WriteModel(copy, path, wroteExternal ? dataFile : null);
    }

    /// <summary>Puts a finished data file and then the model under their names.</summary>
    internal static void WriteModel(ModelProto proto, string path, AtomicFile? dataFile)
    {
        using var modelFile = new AtomicFile(path);
        try
        {
            proto.WriteTo(modelFile.Stream);
        }
        catch (Exception e) when (e is OverflowException or OutOfMemoryException or ArgumentOutOfRangeException)
        {
            throw new ModelException($"{path}: the model exceeds 2 GiB, the limit of one file; write its weights as external data.", e);
        }

        if (modelFile.Stream.Length > int.MaxValue)
        {
            throw new ModelException($"{path}: the model exceeds 2 GiB, the limit of one file; write its weights as external data.");
        }

        modelFile.Close();
        if (dataFile is not null)
        {
            // Without this, a process killed between the two renames would leave the old graph beside the new weights.
            dataFile.Close();
            File.Delete(path);
            dataFile.Commit();
        }

        modelFile.Commit();
    }

    internal static bool IsExternal(TensorProto tensor) => tensor.DataLocation == TensorProto.Types.DataLocation.External;

    private static long ByteLength(TensorProto tensor) =>
        ElementTypes.TryByteLength((DataType)tensor.DataType, tensor.Dims, out var bytes) ? bytes : 0;

    private ExternalData Locate(TensorProto tensor) =>
        Path is null
            ? throw new ModelException($"{UnsavedSource}: tensor '{tensor.Name}' has external data, but the model is from no file.")
            : ExternalData.Resolve(tensor, Path);

    private void CheckStorage(TensorProto tensor)
    {
        if (IsExternal(tensor))
        {
            Locate(tensor);
        }
        else if ((DataType)tensor.DataType != DataType.String)
        {
            TensorData.Inline(tensor, Path ?? UnsavedSource);
        }
    }
}
