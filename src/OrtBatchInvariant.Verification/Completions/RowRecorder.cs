using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace OrtBatchInvariant.Verification.Completions;

/// <summary>Takes in the logits and tokens of one row as they come.</summary>
internal sealed class RowRecorder(int prompt, IReadOnlyList<int> eosTokenIds, int newTokens) : IDisposable
{
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly List<int> _tokens = [];
    private long _logitsCount;

    public bool IsDone { get; private set; }

    /// <param name="logits">The logits of one position.</param>
    /// <param name="token">The token that was chosen from them; null to take the largest logit's, the first of equals.</param>
    public void Add(ReadOnlySpan<float> logits, int? token)
    {
        // A digest of NaN, or of an output that nobody wrote, would agree with itself for the wrong reason.
        if (!float.IsFinite(TensorPrimitives.MaxMagnitude(logits)) || TensorPrimitives.Max(logits) == TensorPrimitives.Min(logits))
        {
            throw new VerificationException(
                $"The logits of token {_tokens.Count} of a completion of prompt {prompt} are not finite or all equal, so comparing them would prove nothing.");
        }

        _hash.AppendData(MemoryMarshal.AsBytes(logits));
        _logitsCount += logits.Length;
        int chosen = token ?? logits.IndexOf(TensorPrimitives.Max(logits));
        _tokens.Add(chosen);
        IsDone = eosTokenIds.Contains(chosen) || _tokens.Count == newTokens;
    }

    public Completion Finish(string run) => new(prompt, _tokens, Convert.ToHexStringLower(_hash.GetHashAndReset()), _logitsCount, run);

    public void Dispose() => _hash.Dispose();
}
