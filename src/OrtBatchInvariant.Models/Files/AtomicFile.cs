namespace OrtBatchInvariant.Models.Files;

/// <summary>
/// A file that appears under its name only when it is complete: written beside its place under a hidden name ending in
/// <c>.partial</c>, flushed to the disk, then renamed. Disposing without <see cref="Commit"/> removes it.
/// </summary>
internal sealed class AtomicFile : IDisposable
{
    private const int BufferBytes = 1 << 20;

    private readonly string _path;
    private readonly string _partialPath;
    private bool _done;

    public AtomicFile(string path)
    {
        _path = path;
        _partialPath = PartialName.For(path);
        Stream = new FileStream(
            _partialPath, FileMode.CreateNew, FileAccess.Write, FileShare.None, BufferBytes, FileOptions.SequentialScan);
    }

    public FileStream Stream { get; }

    /// <summary>Flushes and closes the partial file; <see cref="Commit"/> may follow.</summary>
    public void Close()
    {
        if (Stream.CanWrite)
        {
            Stream.Flush(flushToDisk: true);
            Stream.Dispose();
        }
    }

    public void Commit()
    {
        Close();
        File.Move(_partialPath, _path, overwrite: true);
        _done = true;
    }

    public void Dispose()
    {
        Stream.Dispose();
        if (!_done)
        {
            File.Delete(_partialPath);
        }
    }
}
