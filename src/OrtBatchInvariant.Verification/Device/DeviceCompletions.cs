using System.Diagnostics;
using System.Security.Cryptography;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>What completing one prompt many times came to.</summary>
/// <param name="Completions">Number of completions of the prompt.</param>
/// <param name="UniqueLogits">Different logits among them, as bytes over the whole completion.</param>
/// <param name="UniqueCompletions">Different token sequences among them.</param>
/// <param name="LogitsCompared">Logits that went into the comparison.</param>
/// <param name="Batches">Number of batches.</param>
/// <param name="GeneratedTokens">Tokens generated, those of neighbours included.</param>
/// <param name="Elapsed">Time that it took, with prefill, choosing tokens and recording.</param>
/// <param name="Alone">The tokens of the prompt's completion alone in its batch.</param>
public sealed record DeviceCompletionsResult(
    int Completions,
    int UniqueLogits,
    int UniqueCompletions,
    long LogitsCompared,
    int Batches,
    long GeneratedTokens,
    TimeSpan Elapsed,
    IReadOnlyList<int> Alone);

/// <summary>Completes one prompt over and over, greedily, in batches of random sizes among random neighbours of random lengths.</summary>
public static class DeviceCompletions
{
    /// <summary>Runs the experiment.</summary>
    /// <param name="model">The model.</param>
    /// <param name="prompt">The prompt, as tokens.</param>
    /// <param name="completions">Number of completions to reach; the first is alone in its batch.</param>
    /// <param name="newTokens">Tokens of a completion; tokens that end a text do not end it here.</param>
    /// <param name="maxRows">The largest batch.</param>
    /// <param name="seed">What batches and neighbours are drawn from.</param>
    /// <param name="progress">Told the number of completions after each batch.</param>
    /// <exception cref="VerificationException">The model cannot be run, or a logit is not a number.</exception>
    public static DeviceCompletionsResult Run(
        DecoderModel model, int[] prompt, int completions, int newTokens, int maxRows, int seed, Action<int>? progress = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(prompt);
        var random = new Random(seed);
        var digests = new HashSet<string>();
        var texts = new HashSet<string>();
        var clock = Stopwatch.StartNew();
        int done = 0;
        int batches = 0;
        long generated = 0;
        int[] alone = [];
        while (done < completions)
        {
            int rows = batches == 0 ? 1 : random.Next(2, maxRows + 1);
            bool[] isPrompt = [.. Enumerable.Range(0, rows).Select(_ => random.Next(2) == 0)];
            isPrompt[random.Next(rows)] = true;
            int[][] tokens = [.. isPrompt.Select(holds => holds ? prompt : Neighbour(model, random, prompt.Length))];
            foreach (Completion completion in Complete(model, tokens, isPrompt, newTokens).Take(completions - done))
            {
                digests.Add(completion.Digest);
                texts.Add(string.Join(' ', completion.Tokens));
                alone = done == 0 ? completion.Tokens : alone;
                done++;
            }

            batches++;
            generated += (long)rows * newTokens;
            progress?.Invoke(done);
        }

        return new DeviceCompletionsResult(
            done, digests.Count, texts.Count, (long)done * newTokens * model.Shape.VocabularySize, batches, generated, clock.Elapsed, alone);
    }

    private static List<Completion> Complete(DecoderModel model, int[][] prompts, bool[] isPrompt, int newTokens)
    {
        int rows = prompts.Length;
        using var batch = new DecoderBatch(model, rows, prompts.Max(row => row.Length) + newTokens, model.PoisonsBuffers);
        IncrementalHash?[] hashes = [.. isPrompt.Select(holds => holds ? IncrementalHash.CreateHash(HashAlgorithmName.SHA256) : null)];
        try
        {
            int[][] texts = [.. prompts.Select(_ => new int[newTokens])];
            BatchLogits logits = batch.Append(prompts);
            for (int step = 0; step < newTokens; step++)
            {
                using (logits)
                {
                    Parallel.For(0, rows, row =>
                    {
                        int at = step == 0 ? prompts[row].Length - 1 : 0;
                        texts[row][step] = logits.MostLikely(row, at);
                        hashes[row]?.AppendData(logits.Bytes(row, at));
                    });
                }

                if (step + 1 < newTokens)
                {
                    logits = batch.Step([.. texts.Select(text => text[step])]);
                }
            }

            return
            [
                .. Enumerable.Range(0, rows).Where(row => isPrompt[row])
                    .Select(row => new Completion(texts[row], Convert.ToHexStringLower(hashes[row]!.GetHashAndReset()))),
            ];
        }
        finally
        {
            foreach (IncrementalHash? hash in hashes)
            {
                hash?.Dispose();
            }
        }
    }

    private static int[] Neighbour(DecoderModel model, Random random, int promptLength) =>
        [.. Enumerable.Range(0, random.Next(1, (2 * promptLength) + 1)).Select(_ => random.Next(model.Shape.VocabularySize))];

    private sealed record Completion(int[] Tokens, string Digest);
}
