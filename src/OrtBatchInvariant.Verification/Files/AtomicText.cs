using System.Text;
using OrtBatchInvariant.Models.Files;

namespace OrtBatchInvariant.Verification.Files;

/// <summary>Writes text files that appear under their names only when they are complete.</summary>
public static class AtomicText
{
    /// <summary>Writes the text beside its place under a hidden name, then renames it; an existing file is replaced.</summary>
    /// <param name="path">The file.</param>
    /// <param name="text">What it holds afterwards, in UTF-8.</param>
    /// <exception cref="VerificationException">The file cannot be written; nothing is left then.</exception>
    public static void Write(string path, string text)
    {
        string target = Path.GetFullPath(path);
        string partial = PartialName.For(target);
        try
        {
            using (var stream = new FileStream(partial, FileMode.CreateNew, FileAccess.Write, FileShare.None))
            {
                stream.Write(Encoding.UTF8.GetBytes(text));
                stream.Flush(flushToDisk: true);
            }

            File.Move(partial, target, overwrite: true);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            File.Delete(partial);
            throw CannotBeWritten(path, exception);
        }
    }

    /// <summary>Checks, before hours of work, that <see cref="Write"/> can write: makes an empty file of a hidden name and removes it.</summary>
    /// <param name="path">The file that will be written.</param>
    /// <exception cref="VerificationException">Its folder does not exist or cannot be written to, or a folder is in its place.</exception>
    public static void CheckTarget(string path)
    {
        string target = Path.GetFullPath(path);
        if (Directory.Exists(target))
        {
            throw new VerificationException($"{path}: is a folder; name a file.");
        }

        if (!Directory.Exists(Path.GetDirectoryName(target)))
        {
            throw new VerificationException($"{path}: the folder to write to does not exist; create it first.");
        }

        string partial = PartialName.For(target);
        try
        {
            File.Create(partial, bufferSize: 1, FileOptions.DeleteOnClose).Dispose();
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw CannotBeWritten(path, exception);
        }
    }

    private static VerificationException CannotBeWritten(string path, Exception exception) =>
        new($"{path}: cannot be written ({PartialName.Hide(exception.Message).TrimEnd('.')}).", exception);
}
