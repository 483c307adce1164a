using OrtBatchInvariant.Verification.Axes;

namespace OrtBatchInvariant.Verification.Experiments;

/// <summary>What an <see cref="InvarianceExperiment"/> does.</summary>
public sealed record ExperimentOptions
{
    /// <summary>The prompts. A model without a tokenizer gets as many prompts of random tokens instead.</summary>
    public required IReadOnlyList<string> Prompts { get; init; }

    /// <summary>What is varied.</summary>
    /// <value>The default is every axis.</value>
    public IReadOnlyList<InvarianceAxis> Axes { get; init; } = InvarianceAxis.All;

    /// <summary>The number of tokens of a completion.</summary>
    public int NewTokens { get; init; } = 24;

    /// <summary>For how many prompts, from the first, an axis tries many values; for the others it tries few.</summary>
    public int ThoroughPrompts { get; init; } = 1;

    /// <summary>What neighbours are drawn from: the same seed gives the same batches.</summary>
    public int Seed { get; init; }
}

/// <summary>How far an experiment is.</summary>
/// <param name="Axis">The axis that is being run; empty before the first.</param>
/// <param name="Completions">Completions so far.</param>
/// <param name="TotalCompletions">Completions in all.</param>
public readonly record struct ExperimentProgress(string Axis, int Completions, int TotalCompletions);
