namespace OrtBatchInvariant.Models;

/// <summary>
/// A model file, checkpoint or option that cannot be used. The message is one sentence that names the file and, where
/// there is one, the tensor or node, and says what is wrong with it.
/// </summary>
public sealed class ModelException : Exception
{
    /// <summary>Creates the error.</summary>
    /// <param name="message">One sentence for the user.</param>
    /// <param name="innerException">What was caught, if anything.</param>
    public ModelException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }
}
