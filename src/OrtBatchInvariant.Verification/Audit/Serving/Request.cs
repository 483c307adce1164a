using System.Security.Cryptography;
using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>One request in a running batch.</summary>
internal sealed class Request(int[] prompt, int newTokens, IDecoding decoding, bool isProbe)
{
    private readonly List<int> _tokens = [];
    private readonly List<string> _digests = [];
    private long _batchSizes;

    /// <summary>What a prefill takes: the prompt, and what came after it if the request was running before.</summary>
    public int[] Text => [.. prompt, .. _tokens];

    /// <summary>Whether somebody looks at what it comes to.</summary>
    public bool IsProbe { get; } = isProbe;

    public IDecoding Decoding { get; } = decoding;

    /// <summary>Tokens that it asks for.</summary>
    public int NewTokens { get; } = newTokens;

    public IReadOnlyList<int> Tokens => _tokens;

    /// <summary>A digest of the logits that each token was chosen from.</summary>
    public IReadOnlyList<string> Digests => _digests;

    public bool IsDone => _tokens.Count == NewTokens;

    /// <summary>Tokens in the KV cache: the last one is not there yet.</summary>
    public int Length => prompt.Length + _tokens.Count - 1;

    public int MeanBatchSize => (int)Math.Round((double)_batchSizes / _tokens.Count);

    /// <summary>Chooses the next token.</summary>
    /// <param name="shape">The model.</param>
    /// <param name="logits">The logits to choose from.</param>
    /// <param name="batchSize">Requests that ran together.</param>
    public void Take(DecoderShape shape, ReadOnlySpan<byte> logits, int batchSize)
    {
        Take(Decoding.Choose(shape, logits, _tokens.Count), batchSize);
        if (IsProbe)
        {
            _digests.Add(Convert.ToHexStringLower(SHA256.HashData(logits)));
        }
    }

    /// <summary>Takes the next token, which was chosen elsewhere from logits that are not seen here.</summary>
    /// <param name="token">The token.</param>
    /// <param name="batchSize">Requests that ran together.</param>
    public void Take(int token, int batchSize)
    {
        _tokens.Add(token);
        _batchSizes += batchSize;
    }
}

/// <summary>How tokens are chosen from logits.</summary>
internal interface IDecoding
{
    string Name { get; }

    /// <param name="shape">The model.</param>
    /// <param name="logits">The logits.</param>
    /// <param name="index">The number of the token in its completion.</param>
    int Choose(DecoderShape shape, ReadOnlySpan<byte> logits, int index);
}

/// <summary>Temperature 0. Among exactly equal logits the lowest token id wins.</summary>
internal sealed class Greedy : IDecoding
{
    public string Name => "temperature 0";

    public int Choose(DecoderShape shape, ReadOnlySpan<byte> logits, int index) => BatchLogits.MostLikely(shape, logits);
}

/// <summary>
/// Sampling on the host: the token whose interval of the cumulated probabilities, in token order and float64, holds a random number that
/// the seed and the number of the token fix. So equal logits give equal tokens in every completion.
/// </summary>
internal sealed class Sampling(double temperature, int seed) : IDecoding
{
    public string Name => FormattableString.Invariant($"temperature {temperature}, seed {seed}");

    public int Choose(DecoderShape shape, ReadOnlySpan<byte> logits, int index)
    {
        double highest = BatchLogits.Read(shape.LogitsType, logits, BatchLogits.MostLikely(shape, logits));
        double[] weights = new double[shape.VocabularySize];
        double sum = 0;
        for (int i = 0; i < weights.Length; i++)
        {
            weights[i] = Math.Exp((BatchLogits.Read(shape.LogitsType, logits, i) - highest) / temperature);
            sum += weights[i];
        }

        double left = new Random(unchecked((seed * 1_000_003) + index)).NextDouble() * sum;
        for (int i = 0; i < weights.Length; i++)
        {
            left -= weights[i];
            if (left < 0)
            {
                return i;
            }
        }

        return weights.Length - 1;
    }
}
