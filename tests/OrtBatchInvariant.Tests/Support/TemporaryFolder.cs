namespace OrtBatchInvariant.Tests.Support;

internal sealed class TemporaryFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("ort-batch-invariant-");

    internal string Path => _folder.FullName;

    /// <summary>Writes a file, with the folders above it, and returns its full path.</summary>
    internal string Write(string relativePath, ReadOnlySpan<byte> content = default)
    {
        string path = System.IO.Path.Combine(Path, relativePath);
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, content);
        return path;
    }

    public void Dispose() => _folder.Delete(recursive: true);
}
