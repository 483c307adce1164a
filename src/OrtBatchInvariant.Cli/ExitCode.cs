namespace OrtBatchInvariant.Cli;

/// <summary>What the tool's exit codes mean.</summary>
internal static class ExitCode
{
    public const int Success = 0;

    /// <summary>It could not be done, or an answer depended on its batch.</summary>
    public const int Failure = 1;

    /// <summary>The command line makes no sense.</summary>
    public const int Usage = 2;

    /// <summary>`inspect` found nodes that can vary, or `verify` logits that do.</summary>
    public const int Varies = 3;

    /// <summary>Stopped by Ctrl-C, as shells count it.</summary>
    public const int Cancelled = 130;

    /// <summary>Stopped since nobody reads the output any more, as shells count it.</summary>
    public const int OutputClosed = 141;
}
