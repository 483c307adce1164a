using System.CommandLine;

namespace OrtBatchInvariant.Cli;

/// <summary>Commands that Ctrl-C stops, or the end of whoever reads their output, so that they leave nothing half-written.</summary>
internal static class StoppableAction
{
    /// <summary>Sets what a command does.</summary>
    /// <param name="command">The command.</param>
    /// <param name="run">Does it and returns the exit code; the token asks it to stop.</param>
    /// <remarks>It runs on another thread: Ctrl-C is caught only once the action has handed back its task.</remarks>
    public static void SetStoppableAction(this Command command, Func<ParseResult, CancellationToken, int> run) =>
        command.SetAction((parsed, cancellation) => Task.Run(
            () =>
            {
                using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, OutputPipe.Closed);
                return run(parsed, stop.Token);
            },
            CancellationToken.None));
}
