namespace OrtBatchInvariant.Models.Files;

/// <summary>
/// Makes folders that appear under their names only when they are complete. Files go to a hidden sibling ending in
/// <c>.partial</c>, which is renamed at the end, and removed when it does not come to that.
/// </summary>
internal static class AtomicDirectory
{
    /// <summary>Makes a folder.</summary>
    /// <param name="target">The folder to make.</param>
    /// <param name="overwrite">Whether a non-empty folder of that name is replaced; otherwise it is refused.</param>
    /// <param name="fill">Writes into the folder that it is given; what it throws leaves nothing behind.</param>
    /// <returns>What <paramref name="fill"/> returned.</returns>
    /// <exception cref="ModelException">The folder is taken, or cannot be written.</exception>
    public static T Make<T>(string target, bool overwrite, Func<string, T> fill)
    {
        string folder = Path.TrimEndingDirectorySeparator(Path.GetFullPath(target));
        RefuseIfTaken(folder, overwrite);
        string partial = PartialName.For(folder);
        try
        {
            Directory.CreateDirectory(partial);
            T result = fill(partial);
            RefuseIfTaken(folder, overwrite);
            Rename(partial, folder);
            return result;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException && PartialName.IsIn(exception.Message))
        {
            throw new ModelException($"{folder}: cannot be written ({PartialName.Hide(exception.Message).TrimEnd('.')}).", exception);
        }
        finally
        {
            if (Directory.Exists(partial))
            {
                Directory.Delete(partial, recursive: true);
            }
        }
    }

    private static void Rename(string partial, string folder)
    {
        if (!Directory.Exists(folder))
        {
            Directory.Move(partial, folder);
            return;
        }

        string replaced = PartialName.For(folder);
        Directory.Move(folder, replaced);
        try
        {
            Directory.Move(partial, folder);
        }
        catch
        {
            Directory.Move(replaced, folder);
            throw;
        }

        Directory.Delete(replaced, recursive: true);
    }

    private static void RefuseIfTaken(string folder, bool overwrite)
    {
        if (File.Exists(folder))
        {
            throw new ModelException($"{folder}: a file of this name is in the way; choose another output folder.");
        }

        if (!overwrite && Directory.Exists(folder) && Directory.EnumerateFileSystemEntries(folder).Any())
        {
            throw new ModelException($"{folder}: the output folder exists and is not empty; choose another one, or ask to replace it (--force).");
        }
    }
}
