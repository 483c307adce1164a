using System.ComponentModel;
using System.Runtime.InteropServices;
using OrtBatchInvariant.Models;

namespace OrtBatchInvariant.Conversion;

/// <summary>Copies files from one folder to another, piece by piece; each once, however often it was asked for.</summary>
internal sealed partial class FolderCopy(string source, string target, bool link, IProgress<ConvertProgress>? progress, CancellationToken cancellation)
{
    private const int PieceBytes = 4 << 20;

    // By the path relative to both folders; true for what may become a link.
    private readonly Dictionary<string, bool> _files = new(StringComparer.Ordinal);

    /// <summary>Adds files, by paths relative to the folder.</summary>
    /// <param name="files">The files.</param>
    /// <param name="linked">Whether they become links, if links were asked for.</param>
    internal void Plan(IEnumerable<string> files, bool linked)
    {
        foreach (string file in files)
        {
            _files[file] = linked || _files.GetValueOrDefault(file);
        }
    }

    /// <summary>The path of a file in the target folder, whose folder is made.</summary>
    internal string Prepare(string file)
    {
        string path = Path.Combine(target, file);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        return path;
    }

    internal void Run()
    {
        long total = _files.Sum(file => new FileInfo(Path.Combine(source, file.Key)).Length);
        long done = 0;
        byte[] piece = new byte[PieceBytes];
        foreach ((string file, bool linked) in _files)
        {
            string from = Path.Combine(source, file);
            if (linked && link)
            {
                Link(from, Prepare(file));
                done += new FileInfo(from).Length;
                progress?.Report(new ConvertProgress(done, total, file));
                continue;
            }

            using var reader = new FileStream(from, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.SequentialScan);
            using var writer = new FileStream(Prepare(file), FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 0);
            for (int read; (read = reader.Read(piece)) > 0;)
            {
                cancellation.ThrowIfCancellationRequested();
                writer.Write(piece.AsSpan(0, read));
                done += read;
                progress?.Report(new ConvertProgress(done, total, file));
            }
        }
    }

    private static void Link(string from, string to)
    {
        // A name in a download cache is itself a link into its store.
        string file = new FileInfo(from).ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? from;
        bool made = OperatingSystem.IsWindows() ? CreateHardLink(to, file, 0) : UnixLink(file, to) == 0;
        if (!made)
        {
            string reason = new Win32Exception(Marshal.GetLastPInvokeError()).Message;
            throw new ModelException($"{from}: cannot be linked to from the output folder ({reason}); put that on the same file system, or copy the data.");
        }
    }

    [LibraryImport("libc", EntryPoint = "link", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int UnixLink(string existing, string name);

    [LibraryImport("kernel32", EntryPoint = "CreateHardLinkW", SetLastError = true, StringMarshalling = StringMarshalling.Utf16)]
    [return: MarshalAs(UnmanagedType.Bool)]
    private static partial bool CreateHardLink(string name, string existing, nint security);
}
