using System.Runtime.InteropServices;

namespace OrtBatchInvariant.Internal;

/// <summary>The one file that both this assembly's imports and ONNX Runtime use: loaded once and never unloaded.</summary>
internal static class NativeLibraryFile
{
    // Without one of these the file is something else, or of another version.
    private static readonly string[] s_exports =
    [
        "CreateEpFactories", "ReleaseEpFactory", "OrtBatchInvariant_Version", "OrtBatchInvariant_InstructionSet",
        "OrtBatchInvariant_GetCoverageReport", "OrtBatchInvariant_ReleaseCoverageReport", "OrtBatchInvariant_GetInvariantOps",
    ];

    private static readonly Lock s_lock = new();
    private static volatile string? s_path;
    private static nint s_handle;

    internal static bool IsLoaded => s_path is not null;

    /// <summary>Loads the library if no file is loaded yet.</summary>
    /// <param name="path">The file; null for the one that is loaded, or else the one that <see cref="LibraryLocator"/> finds.</param>
    /// <returns>The full path of the loaded file.</returns>
    internal static string Load(string? path)
    {
        if (path is null && s_path is { } loaded)
        {
            return loaded;
        }

        lock (s_lock)
        {
            path = path is null ? s_path ?? LibraryLocator.ForThisProcess().Find() : Path.GetFullPath(path);
            if (s_path is not null)
            {
                return s_path == path
                    ? path
                    : throw new BatchInvariantException($"'{s_path}' is loaded already, so '{path}' cannot be loaded as well: use one of them in a process.");
            }

            nint handle = Open(path);
            NativeLibrary.SetDllImportResolver(
                typeof(NativeLibraryFile).Assembly, static (name, _, _) => name == Interop.Libraries.BatchInvariant ? s_handle : 0);
            s_handle = handle;
            s_path = path;
            return path;
        }
    }

    internal static nint Open(string path)
    {
        if (!File.Exists(path))
        {
            throw new BatchInvariantException($"The native library '{path}' does not exist.");
        }

        if (ElfFile.IsCutOff(path))
        {
            throw new BatchInvariantException($"The native library '{path}' is cut off: copy it again, or rebuild it with scripts/build-native.sh.");
        }

        nint handle;
        try
        {
            handle = NativeLibrary.Load(path);
        }
        catch (Exception exception) when (exception is DllNotFoundException or BadImageFormatException)
        {
            throw new BatchInvariantException(
                $"'{path}' cannot be loaded as a native library: rebuild it with scripts/build-native.sh for this machine ({exception.Message.ReplaceLineEndings(" ").TrimEnd('.', ' ')}).",
                exception);
        }

        if (s_exports.FirstOrDefault(export => !NativeLibrary.TryGetExport(handle, export, out _)) is { } missing)
        {
            NativeLibrary.Free(handle);
            throw new BatchInvariantException($"'{path}' is not the batch-invariant provider of this version: it does not export {missing}.");
        }

        return handle;
    }
}
