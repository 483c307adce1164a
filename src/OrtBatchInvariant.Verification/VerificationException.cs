namespace OrtBatchInvariant.Verification;

/// <summary>
/// A model folder, prompt or option that cannot be measured. The message is one sentence that names the file or value, says what is
/// wrong with it and what to do.
/// </summary>
public sealed class VerificationException : Exception
{
    /// <summary>Creates the exception.</summary>
    /// <param name="message">One sentence for the user.</param>
    /// <param name="innerException">What was caught, if anything.</param>
    public VerificationException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }
}
