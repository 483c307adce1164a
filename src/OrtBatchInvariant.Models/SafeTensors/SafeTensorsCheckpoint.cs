using System.Text.Json;

namespace OrtBatchInvariant.Models.SafeTensors;

/// <summary>
/// The weights of a model folder: <c>model.safetensors</c>, or the shards that <c>model.safetensors.index.json</c> lists.
/// </summary>
public sealed class SafeTensorsCheckpoint : IDisposable
{
    private const string SingleFileName = "model.safetensors";
    private const string IndexFileName = "model.safetensors.index.json";

    private readonly Dictionary<string, (SafeTensorsFile File, SafeTensorInfo Info)> _tensors = new(StringComparer.Ordinal);
    private readonly List<SafeTensorsFile> _files = [];

    private SafeTensorsCheckpoint(string folder)
    {
        Folder = folder;
    }

    /// <summary>The model folder.</summary>
    public string Folder { get; }

    /// <summary>Names of all tensors.</summary>
    public IReadOnlyCollection<string> Names => _tensors.Keys;

    /// <summary>Opens all files of a checkpoint and checks them against each other and the index.</summary>
    /// <param name="folder">The model folder.</param>
    /// <exception cref="ModelException">A file is missing or wrong, or index and shards disagree.</exception>
    public static SafeTensorsCheckpoint Open(string folder)
    {
        var checkpoint = new SafeTensorsCheckpoint(folder);
        try
        {
            var single = Path.Combine(folder, SingleFileName);
            var index = Path.Combine(folder, IndexFileName);
            if (File.Exists(single))
            {
                checkpoint.Add(SafeTensorsFile.Open(single));
            }
            else if (File.Exists(index))
            {
                checkpoint.AddShards(index);
            }
            else
            {
                throw new ModelException(
                    $"{folder}: no {SingleFileName} and no {IndexFileName}; only checkpoints in the safetensors format can be exported.");
            }

            return checkpoint;
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }
    }

    /// <summary>Looks a tensor up; the second value reads it.</summary>
    public bool TryGet(string name, out SafeTensorInfo tensor, out SafeTensorsFile file)
    {
        var found = _tensors.TryGetValue(name, out var entry);
        (file, tensor) = entry;
        return found;
    }

    /// <summary>Unmaps the files.</summary>
    public void Dispose()
    {
        foreach (var file in _files)
        {
            file.Dispose();
        }
    }

    private void AddShards(string indexPath)
    {
        var weightMap = ReadWeightMap(indexPath);
        foreach (var shard in weightMap.Values.Distinct(StringComparer.Ordinal))
        {
            var isPlainName = shard.Length > 0 && shard.IndexOfAny(['/', '\\', ':', '\0']) < 0 && shard is not ("." or "..");
            if (!isPlainName)
            {
                throw new ModelException($"{indexPath}: the shard '{shard}' is not a plain file name; it was not opened.");
            }

            Add(SafeTensorsFile.Open(Path.Combine(Folder, shard)));
        }

        foreach (var (name, shard) in weightMap)
        {
            if (!_tensors.TryGetValue(name, out var entry) || Path.GetFileName(entry.File.Path) != shard)
            {
                throw new ModelException($"{indexPath}: tensor '{name}' is not in '{shard}', where the index puts it.");
            }
        }

        if (_tensors.Keys.FirstOrDefault(name => !weightMap.ContainsKey(name)) is { } unlisted)
        {
            throw new ModelException($"{_tensors[unlisted].File.Path}: tensor '{unlisted}' is not in {IndexFileName}.");
        }
    }

    private static Dictionary<string, string> ReadWeightMap(string indexPath)
    {
        var map = new Dictionary<string, string>(StringComparer.Ordinal);
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(indexPath));
            foreach (var entry in json.RootElement.GetProperty("weight_map").EnumerateObject())
            {
                if (!map.TryAdd(entry.Name, entry.Value.GetString() ?? string.Empty))
                {
                    throw new ModelException($"{indexPath}: tensor '{entry.Name}' is listed twice.");
                }
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            throw new ModelException($"{indexPath}: not a checkpoint index: it has no weight_map of tensor names to file names.", e);
        }

        return map;
    }

    private void Add(SafeTensorsFile file)
    {
        _files.Add(file);
        foreach (var tensor in file.Tensors)
        {
            if (!_tensors.TryAdd(tensor.Name, (file, tensor)))
            {
                throw new ModelException($"{file.Path}: tensor '{tensor.Name}' is also in {_tensors[tensor.Name].File.Path}.");
            }
        }
    }
}
