namespace OrtBatchInvariant.Models.Files;

internal static class PartialName
{
    /// <summary>A hidden sibling of <paramref name="path"/>, so that the final rename stays on one file system.</summary>
    public static string For(string path)
    {
        var full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        var parent = Path.GetDirectoryName(full)
            ?? throw new ModelException($"{path}: the root of a file system cannot be written to; name a folder or file in it.");
        return Path.Combine(parent, $".{Path.GetFileName(full)}.{Guid.NewGuid():N}.partial");
    }
}
