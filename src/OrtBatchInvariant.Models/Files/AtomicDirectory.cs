namespace OrtBatchInvariant.Models.Files;

/// <summary>
/// A folder that appears under its name only when it is complete. Files go to a hidden sibling ending in
/// <c>.partial</c>; <see cref="Commit"/> renames it. Disposing without a commit removes it.
/// </summary>
internal sealed class AtomicDirectory : IDisposable
{
    private readonly string _target;
    private readonly bool _overwrite;
    private bool _done;

    /// <param name="target">The folder to make.</param>
    /// <param name="overwrite">Whether a non-empty folder of that name is replaced; otherwise it is refused.</param>
    public AtomicDirectory(string target, bool overwrite)
    {
        _target = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(target));
        _overwrite = overwrite;
        RefuseIfTaken();
        Path = PartialName.For(_target);
        Directory.CreateDirectory(Path);
    }

    /// <summary>Where to write until the commit.</summary>
    public string Path { get; }

    public void Commit()
    {
        RefuseIfTaken();
        string? replaced = null;
        if (Directory.Exists(_target))
        {
            replaced = PartialName.For(_target);
            Directory.Move(_target, replaced);
        }

        Directory.Move(Path, _target);
        _done = true;
        if (replaced is not null)
        {
            Directory.Delete(replaced, recursive: true);
        }
    }

    public void Dispose()
    {
        if (!_done && Directory.Exists(Path))
        {
            Directory.Delete(Path, recursive: true);
        }
    }

    private void RefuseIfTaken()
    {
        if (File.Exists(_target))
        {
            throw new ModelException($"{_target}: a file of this name is in the way; choose another output folder.");
        }

        if (!_overwrite && Directory.Exists(_target) && Directory.EnumerateFileSystemEntries(_target).Any())
        {
            throw new ModelException(
                $"{_target}: the output folder exists and is not empty; choose another one or ask to overwrite it.");
        }
    }
}
