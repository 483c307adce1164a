using System.Runtime.InteropServices;

namespace OrtBatchInvariant.Cli;

/// <summary>
/// Notices that whoever read stdout has gone, as `head` does when it has its lines. .NET drops what is written to such a pipe without a word,
/// so that a long command would go on for nobody.
/// </summary>
internal static partial class OutputPipe
{
    private const int Stdout = 1;

    // EINTR.
    private const int Interrupted = 4;

    private static readonly Lazy<CancellationToken> s_closed = new(Watch);

    /// <summary>Asks to stop once stdout is a pipe that nobody reads any more. Never on Windows.</summary>
    public static CancellationToken Closed => s_closed.Value;

    private static CancellationToken Watch()
    {
        if (OperatingSystem.IsWindows() || !Console.IsOutputRedirected)
        {
            return CancellationToken.None;
        }

        var source = new CancellationTokenSource();
        new Thread(() =>
        {
            // No events are asked for: what is left are those of a pipe whose other end is closed. A file has none, ever.
            var stdout = new PollDescriptor { File = Stdout };
            int ready;
            do
            {
                ready = Poll(ref stdout, 1, -1);
            }
            while (ready < 0 && Marshal.GetLastPInvokeError() == Interrupted);

            if (ready > 0)
            {
                source.Cancel();
            }
        })
        { IsBackground = true, Name = "stdout" }.Start();
        return source.Token;
    }

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static partial int Poll(ref PollDescriptor descriptors, nuint count, int milliseconds);

    [StructLayout(LayoutKind.Sequential)]
    private struct PollDescriptor
    {
        public int File;
        public short Events;
        public short Happened;
    }
}
