using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Files;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>The text of an audit, run in another process: a request file goes in, a file with the logits comes out.</summary>
public static class FreshRun
{
    /// <summary>Runs the text of a request alone in its batch and writes the logits of each position, one after the other.</summary>
    /// <param name="model">The same model, opened the same way.</param>
    /// <param name="requestFile">What <see cref="AuditOptions.FreshProcess"/> was given first.</param>
    /// <param name="logitsFile">What it was given second.</param>
    /// <exception cref="VerificationException">The request cannot be read, or the model cannot be run.</exception>
    public static void Answer(DecoderModel model, string requestFile, string logitsFile)
    {
        int[][] lines = [.. File.ReadAllLines(requestFile).Select(line => line.Split(' ').Select(int.Parse).ToArray())];
        if (lines is not [[var promptLength], { Length: > 0 } tokens] || promptLength < 1 || promptLength >= tokens.Length)
        {
            throw new VerificationException($"{requestFile}: not a request for a run in a fresh process.");
        }

        var text = new AuditText(model, new AuditOptions { Prompt = tokens[..promptLength], NewTokens = tokens.Length - promptLength });
        text.Complete(tokens[promptLength..]);
        LogitsReference reference = LogitsReference.Record(model, text);
        using FileStream stream = File.Create(logitsFile);
        for (int position = 0; position < reference.Length; position++)
        {
            stream.Write(reference.Bytes(position));
        }
    }

    /// <summary>
    /// Starts the program that is running now once more, with some arguments followed by the request file and the file for the logits.
    /// </summary>
    /// <param name="arguments">Arguments that make it call <see cref="Answer"/>.</param>
    public static Action<string, string> ThisProgram(params string[] arguments) =>
        (request, logits) => Hosting.ThisProgram.Run([.. arguments, request, logits]);

    /// <summary>Has the text run anew and compares the logits.</summary>
    internal static int? Compare(AuditText text, LogitsComparison comparison)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("ortbi-fresh-");
        try
        {
            string request = Path.Combine(folder.FullName, "request");
            string logits = Path.Combine(folder.FullName, "logits");
            AtomicText.Write(request, $"{text.PromptLength}\n{string.Join(' ', text.Tokens)}\n");
            text.Options.FreshProcess!(request, logits);
            if (!File.Exists(logits))
            {
                throw new VerificationException("The fresh process wrote no logits.");
            }

            using FileStream stream = File.OpenRead(logits);
            byte[] bytes = new byte[text.Shape.LogitsBytes];
            LogitsComparison.RowComparison row = comparison.Row(1, comparison.Reference);
            for (int position = 0; position < text.Length; position++)
            {
                stream.ReadExactly(bytes);
                row.Compare(position, bytes);
            }

            row.Finish();
            return row.FirstDifferent;
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }
}
