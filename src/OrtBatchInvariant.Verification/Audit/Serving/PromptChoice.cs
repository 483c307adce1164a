using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>
/// Finds a prompt that shows what kernels do to its text. Most prompts have no two tokens that are nearly as likely within a short
/// completion, so that their text stays the same whatever happens to the last bits of their logits.
/// </summary>
public static class PromptChoice
{
    // With each way of choosing tokens, for a candidate.
    private const int Completions = 24;

    /// <summary>Prompts in the language that a model was trained on: it writes them itself, sampled at temperature 1 after a random token.</summary>
    /// <param name="model">The model.</param>
    /// <param name="count">How many.</param>
    /// <param name="tokens">Tokens of each.</param>
    /// <param name="seed">What is drawn from.</param>
    /// <exception cref="VerificationException">The model cannot be run.</exception>
    public static IReadOnlyList<int[]> Write(DecoderModel model, int count, int tokens, int seed)
    {
        ArgumentNullException.ThrowIfNull(model);
        var random = new Random(seed);
        Sampling[] writers = [.. Enumerable.Range(0, count).Select(_ => new Sampling(1, random.Next()))];
        int[][] texts = [.. Enumerable.Range(0, count).Select(_ => new int[tokens])];
        foreach (int[] text in texts)
        {
            text[0] = random.Next(model.Shape.VocabularySize);
        }

        using var batch = new DecoderBatch(model, count, tokens, model.PoisonsBuffers);
        for (int i = 1; i < tokens; i++)
        {
            using BatchLogits logits = batch.Append([.. texts.Select(text => new[] { text[i - 1] })]);
            Parallel.For(0, count, row => texts[row][i] = writers[row].Choose(model.Shape, logits.Bytes(row, 0), i));
        }

        return texts;
    }

    /// <summary>The candidate whose completions come out in the most ways.</summary>
    /// <param name="model">A model with kernels that vary; with others one candidate is as good as the next.</param>
    /// <param name="options">What the prompt is for. Its own prompt and number of completions do not matter.</param>
    /// <param name="candidates">The prompts to choose from; at least one.</param>
    /// <param name="progress">Told the number of candidates that were tried, and their number in all.</param>
    /// <param name="cancellation">Stops between two candidates; the choice is then among those that were tried.</param>
    /// <exception cref="VerificationException">The model cannot be run this way.</exception>
    public static int[] Choose(
        DecoderModel model,
        ServingOptions options,
        IReadOnlyList<int[]> candidates,
        IProgress<(int Done, int Total)>? progress = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(candidates);
        (int[] Prompt, (int Texts, int Sampled, int Logits) Ways)? best = null;
        for (int i = 0; i < candidates.Count && !cancellation.IsCancellationRequested; i++)
        {
            ServingResult result = ServingExperiment.Run(model, options with { Prompt = candidates[i], Completions = Completions }, cancellation: cancellation);
            if (result.Decodings.Any(decoding => decoding.Completions < 2))
            {
                continue;
            }

            var ways = (result.Decodings[0].DistinctTexts, result.Decodings[1].DistinctTexts, result.Decodings[0].DistinctLogits ?? 1);
            if (best is not { } so || ways.CompareTo(so.Ways) > 0)
            {
                best = (candidates[i], ways);
            }

            progress?.Report((i + 1, candidates.Count));
        }

        return best is { } chosen ? chosen.Prompt : candidates is [var first, ..] ? first : throw new VerificationException("There is no prompt to choose from: name at least one.");
    }
}
