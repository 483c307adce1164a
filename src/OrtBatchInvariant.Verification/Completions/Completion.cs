namespace OrtBatchInvariant.Verification.Completions;

/// <summary>What one row of a batch came to.</summary>
/// <param name="Prompt">The number of its prompt.</param>
/// <param name="Tokens">The tokens, up to and including one that ends it. Among exactly equal logits the lowest token id wins.</param>
/// <param name="LogitsDigest">SHA-256 of the bytes of all its logits: those that each token was chosen from, in order.</param>
/// <param name="LogitsCount">The number of logits that went into the digest.</param>
/// <param name="Run">What was special about the run that it is from, in a few words.</param>
public sealed record Completion(int Prompt, IReadOnlyList<int> Tokens, string LogitsDigest, long LogitsCount, string Run)
{
    /// <summary>The tokens as one string, to compare and count by.</summary>
    public string TokenKey { get; } = string.Join(' ', Tokens);
}
