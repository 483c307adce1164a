using System.IO.MemoryMappedFiles;

namespace OrtBatchInvariant.Models.SafeTensors;

/// <summary>
/// A safetensors file, memory-mapped: opening it reads and checks the header only. Safe to read from several threads.
/// </summary>
public sealed unsafe class SafeTensorsFile : IDisposable
{
    private readonly Dictionary<string, SafeTensorInfo> _byName;
    private readonly MemoryMappedFile _map;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _base;

    private SafeTensorsFile(string path, FileStream file, IReadOnlyList<SafeTensorInfo> tensors)
    {
        Path = path;
        Tensors = tensors;
        _byName = tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
        _map = MemoryMappedFile.CreateFromFile(
            file, mapName: null, capacity: 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
        _view = _map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
        byte* pointer = null;
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
        _base = pointer + _view.PointerOffset;
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>Its tensors in header order.</summary>
    public IReadOnlyList<SafeTensorInfo> Tensors { get; }

    /// <summary>Opens and checks a file.</summary>
    /// <exception cref="ModelException">It is missing, truncated, or its header does not agree with its data.</exception>
    public static SafeTensorsFile Open(string path)
    {
        FileStream file;
        try
        {
            file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new ModelException($"{path}: no such safetensors file.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ModelException($"{path}: the file cannot be read ({e.Message}).", e);
        }

        try
        {
            return new SafeTensorsFile(path, file, SafeTensorsHeader.Read(path, file));
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Looks a tensor up by its name.</summary>
    public bool TryGet(string name, out SafeTensorInfo tensor)
    {
        var found = _byName.TryGetValue(name, out var info);
        tensor = info!;
        return found;
    }

    /// <summary>Converts a run of elements to fp32, exactly.</summary>
    /// <param name="tensor">A tensor of this file, of type F32, F16 or BF16.</param>
    /// <param name="firstElement">Index of the first element in row-major order.</param>
    /// <param name="destination">Receives the elements.</param>
    /// <exception cref="ModelException">The tensor has another type.</exception>
    public void Read(SafeTensorInfo tensor, long firstElement, Span<float> destination)
    {
        if (!SafeTensorTypes.IsReadable(tensor.DataType))
        {
            throw new ModelException($"{Path}: tensor '{tensor.Name}' is of type {tensor.DataType}; F32, F16 and BF16 can be exported.");
        }

        ArgumentOutOfRangeException.ThrowIfNegative(firstElement);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(destination.Length, tensor.ElementCount - firstElement, nameof(destination));
        var size = SafeTensorTypes.Bits(tensor.DataType) / 8;
        var source = new ReadOnlySpan<byte>(_base + tensor.Offset + (firstElement * size), checked(destination.Length * size));
        SafeTensorTypes.ToSingle(tensor.DataType, source, destination);
    }

    /// <summary>Unmaps the file; spans and reads must have ended.</summary>
    public void Dispose()
    {
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _map.Dispose();
    }
}
