using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Cli.Verify;

/// <summary>Prompts as tokens, and tokens as text.</summary>
internal static class PromptReader
{
    /// <summary>A text as tokens, by GenAI's tokenizer. The process needs an <see cref="OgaHandle"/>.</summary>
    public static int[] Encode(ModelFolder folder, string text)
    {
        if (folder.Config is null)
        {
            throw new VerificationException($"{folder.DecoderFile}: a bare decoder has no tokenizer; leave --prompt out, or name a model folder with a genai_config.json.");
        }

        using HostedModel model = HostedModel.Load(folder, new HostOptions { Kernels = KernelSet.Stock });
        using Sequences sequences = model.Tokenizer.Encode(text);
        return sequences.NumSequences > 0 && sequences[0].Length > 0 ? sequences[0].ToArray() : throw new VerificationException("The prompt has no tokens: give it some text.");
    }

    /// <summary>The texts of a result in words, by GenAI's tokenizer. The process needs an <see cref="OgaHandle"/>.</summary>
    public static IReadOnlyList<ServingResult> Decode(ModelFolder folder, IReadOnlyList<ServingResult> results)
    {
        using HostedModel model = HostedModel.Load(folder, new HostOptions { Kernels = KernelSet.Stock });
        return [.. results.Select(result => result with { Decodings = [.. result.Decodings.Select(Decode)] })];

        DecodingResult Decode(DecodingResult decoding) => decoding with
        {
            Answers = decoding.Answers is { } answers
                ? answers with { Texts = [.. answers.TextTokens.Select(tokens => model.Tokenizer.Decode([.. tokens]))] }
                : null,
        };
    }

    /// <summary>Random tokens.</summary>
    public static int[] Draw(DecoderModel model, int count, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(model.Shape.VocabularySize))];
    }
}
