using System.Globalization;

namespace OrtBatchInvariant.Models;

/// <summary>
/// A model file, checkpoint or option that cannot be used. The message is one sentence that names the file and, where
/// there is one, the tensor or node, and says what is wrong with it.
/// </summary>
public sealed class ModelException : Exception
{
    /// <summary>Creates the error.</summary>
    /// <param name="message">One sentence for the user. Control characters, which names in a broken file may hold, are shown as <c>\u000a</c> and the like.</param>
    /// <param name="innerException">What was caught, if anything.</param>
    public ModelException(string message, Exception? innerException = null)
        : base(Visible(message), innerException)
    {
    }

    private static string Visible(string message) =>
        message.Any(char.IsControl)
            ? string.Concat(message.Select(c => char.IsControl(c) ? string.Create(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}") : c.ToString()))
            : message;
}
