using System.Text.RegularExpressions;

namespace OrtBatchInvariant.Models.Files;

internal static partial class PartialName
{
    /// <summary>A hidden sibling of <paramref name="path"/>, so that the final rename stays on one file system.</summary>
    public static string For(string path)
    {
        var full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        var parent = Path.GetDirectoryName(full)
            ?? throw new ModelException($"{path}: the root of a file system cannot be written to; name a folder or file in it.");
        return Path.Combine(parent, $".{Path.GetFileName(full)}.{Guid.NewGuid():N}.partial");
    }

    /// <summary>Whether a message of the operating system is about such a name.</summary>
    public static bool IsIn(string message) => Partial().IsMatch(message);

    /// <summary>The message with the names that the user gave.</summary>
    public static string Hide(string message) => Partial().Replace(message, "$1");

    [GeneratedRegex(@"\.([^/\\]+)\.[0-9a-f]{32}\.partial")]
    private static partial Regex Partial();
}
