namespace OrtBatchInvariant.Verification.Completions;

/// <summary>One row of a batch.</summary>
/// <param name="Tokens">What the model is given.</param>
/// <param name="Prompt">The number of the prompt whose completion this is, or null for a neighbour that nobody looks at.</param>
public sealed record CompletionRow(int[] Tokens, int? Prompt);

/// <summary>One run of the generator loop: prompts that are completed together, greedily.</summary>
/// <param name="Rows">The prompts. Shorter ones are padded on the right, as GenAI pads them.</param>
/// <param name="NewTokens">The number of tokens of a completion, unless a token that ends it comes first.</param>
public sealed record CompletionBatch(IReadOnlyList<CompletionRow> Rows, int NewTokens)
{
    /// <summary>
    /// How many tokens at the end of each row belong to its completion already: their logits come from the prefill of the row, those
    /// of the tokens after them from decode steps.
    /// </summary>
    public int Forced { get; init; }

    /// <summary>The length of the KV buffer in tokens; null for just what is needed.</summary>
    public int? MaxLength { get; init; }

    /// <summary>The number of tokens that a prefill step takes; null for all. Only for batches of one row.</summary>
    public int? ChunkSize { get; init; }

    /// <summary>The number of threads that an operator may use; null for what the model was loaded with.</summary>
    public int? Threads { get; init; }

    /// <summary>What is special about this run, in a few words.</summary>
    public string Description =>
        Rows.Count > 1 ? $"in a batch of {Rows.Count}"
        : ChunkSize is { } chunk ? $"prefill in chunks of {chunk}"
        : Forced > 0 ? $"first {Forced} tokens prefilled"
        : "alone";

    /// <summary>The completions in this batch that somebody looks at.</summary>
    public int Probes => Rows.Count(row => row.Prompt is not null);
}
