namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>A folder that is removed with its content.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("ortbi-models-").FullName;

    public string this[string name] => System.IO.Path.Combine(Path, name);

    /// <summary>Names of everything in the folder, hidden files too.</summary>
    public IEnumerable<string> Entries() => Directory.EnumerateFileSystemEntries(Path).Select(System.IO.Path.GetFileName)!;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
