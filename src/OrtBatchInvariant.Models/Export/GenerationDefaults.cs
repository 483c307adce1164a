namespace OrtBatchInvariant.Models.Export;

/// <summary>
/// The <c>search</c> settings that a checkpoint recommends. The defaults are those of Hugging Face's GenerationConfig.
/// </summary>
public sealed record GenerationDefaults
{
    /// <summary>Sample instead of taking the most likely token.</summary>
    public bool DoSample { get; init; }

    /// <summary>Divides the logits before sampling.</summary>
    public double Temperature { get; init; } = 1.0;

    /// <summary>Number of most likely tokens to sample from.</summary>
    public int TopK { get; init; } = 50;

    /// <summary>Probability mass to sample from.</summary>
    public double TopP { get; init; } = 1.0;

    /// <summary>Penalty of tokens that have occurred; 1 is none.</summary>
    public double RepetitionPenalty { get; init; } = 1.0;
}
