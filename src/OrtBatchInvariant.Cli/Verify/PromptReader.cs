using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Cli.Verify;

/// <summary>Prompts as tokens.</summary>
internal static class PromptReader
{
    /// <summary>A text as tokens, by GenAI's tokenizer.</summary>
    public static int[] Encode(ModelFolder folder, string text)
    {
        if (folder.Config is null)
        {
            throw new VerificationException($"{folder.DecoderFile}: a bare decoder has no tokenizer; leave --prompt out.");
        }

        using var genAI = new OgaHandle();
        using HostedModel model = HostedModel.Load(folder, new HostOptions { Kernels = KernelSet.Stock });
        using Sequences sequences = model.Tokenizer.Encode(text);
        return sequences.NumSequences > 0 && sequences[0].Length > 0 ? sequences[0].ToArray() : throw new VerificationException("The prompt has no tokens: give it some text.");
    }

    /// <summary>Random tokens.</summary>
    public static int[] Draw(DecoderModel model, int count, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(model.Shape.VocabularySize))];
    }
}
