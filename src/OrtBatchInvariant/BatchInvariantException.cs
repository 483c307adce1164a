namespace OrtBatchInvariant;

/// <summary>The batch-invariant provider cannot do what was asked. The message names what, where and what to do.</summary>
public sealed class BatchInvariantException : Exception
{
    /// <summary>Creates the exception with its one-sentence message.</summary>
    public BatchInvariantException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception with its one-sentence message and the failure behind it.</summary>
    public BatchInvariantException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
