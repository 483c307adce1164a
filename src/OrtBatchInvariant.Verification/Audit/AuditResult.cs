using System.Text.Json.Serialization;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>What the rows of batches of one size came to.</summary>
/// <param name="Rows">The size.</param>
/// <param name="Completions">Rows that held the text.</param>
/// <param name="DistinctLogits">Different logits among them, as bytes over the whole text.</param>
/// <param name="DistinctTexts">Different greedy completions among them.</param>
public sealed record BatchSizeCount(int Rows, int Completions, int DistinctLogits, int DistinctTexts);

/// <summary>What varying one thing did to the logits.</summary>
/// <param name="Id">The axis, as a command line names it.</param>
/// <param name="Name">The axis: what differed from run to run.</param>
/// <param name="Values">The values that it took, in words.</param>
public sealed record AuditAxisResult(string Id, string Name, string Values)
{
    /// <summary>Number of batches that were run.</summary>
    public int Runs { get; init; }

    /// <summary>Logits compared with those of the text alone in its batch.</summary>
    public long ElementsCompared { get; init; }

    /// <summary>Those of them whose bytes differ.</summary>
    public long ElementsDifferent { get; init; }

    /// <summary>
    /// Those whose bytes differ from the <see cref="Baseline"/>: what the axis changes by itself, whatever the number of rows changes.
    /// </summary>
    public long BaselineDifferent { get; init; }

    /// <summary>The same batch without what the axis varies, in words.</summary>
    public string Baseline { get; init; } = "";

    /// <summary>The largest difference, in representable numbers of the logits' type.</summary>
    public long MaxUlp { get; init; }

    /// <summary>The largest difference between two logits.</summary>
    public double MaxLogitDifference { get; init; }

    /// <summary>Positions whose logits were compared.</summary>
    public long PositionsCompared { get; init; }

    /// <summary>Those of them where another token is the most likely one.</summary>
    public long ArgmaxFlips { get; init; }

    /// <summary>The first token of the greedy completion, counted from 0, that comes out differently; null if none does.</summary>
    public int? FirstParting { get; init; }

    /// <summary>How often the most likely token was another one, position by position of the text.</summary>
    public IReadOnlyList<int> FlipsPerPosition { get; init; } = [];

    /// <summary>What the rows of batches came to, a batch size each.</summary>
    public IReadOnlyList<BatchSizeCount> BatchSizes { get; init; } = [];

    /// <summary>Why nothing was run, or not all; null if all was.</summary>
    public string? NotRun { get; init; }

    /// <summary>Whether something was compared and nothing differed.</summary>
    [JsonIgnore]
    public bool IsInvariant => ElementsCompared > 0 && ElementsDifferent == 0;

    /// <summary>Whether something differed.</summary>
    [JsonIgnore]
    public bool Varies => ElementsDifferent > 0;

    /// <summary>A small batch whose logits differ: from its baseline if any does, otherwise from the text alone.</summary>
    internal BatchPlan? Failing { get; init; }

    internal static AuditAxisResult From(AuditAxis axis, AuditText text, int runs, LogitsComparison comparison, BatchPlan? failing, string? notRun) =>
        new(axis.Id, axis.Name, axis.Values(text))
        {
            Runs = runs,
            ElementsCompared = comparison.Difference.Compared,
            ElementsDifferent = comparison.Difference.Different,
            BaselineDifferent = comparison.Own.Different,
            Baseline = axis.Baseline,
            MaxUlp = comparison.Difference.MaxUlp,
            MaxLogitDifference = comparison.Difference.MaxAbsolute,
            PositionsCompared = comparison.Positions,
            ArgmaxFlips = comparison.Flips.Sum(flips => (long)flips),
            FirstParting = comparison.Parting,
            FlipsPerPosition = comparison.Flips,
            BatchSizes = comparison.Sizes,
            NotRun = notRun,
            Failing = failing,
        };
}

/// <summary>What was audited, on what, and with what.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="ModelDigest">SHA-256 of the decoder's graph and weights.</param>
/// <param name="Provider">Whose kernels ran: <c>cpu</c>, <c>cuda</c>, <c>batch-invariant</c>.</param>
/// <param name="Device">The processor or GPU.</param>
/// <param name="OnnxRuntime">ONNX Runtime's version.</param>
/// <param name="Library">The version of the batch-invariant library; empty with stock kernels.</param>
/// <param name="InstructionSet">Its CPU kernels; empty with stock kernels.</param>
/// <param name="Contracts">The arithmetic contracts that the model's nodes are run by; empty with stock kernels.</param>
public sealed record AuditSubject(
    string Model, string ModelDigest, string Provider, string Device, string OnnxRuntime, string Library, string InstructionSet, IReadOnlyList<string> Contracts);

/// <summary>What an audit found.</summary>
/// <param name="Subject">What was audited.</param>
/// <param name="Axes">The results, an axis each.</param>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="NewTokens">Tokens of its completion.</param>
/// <param name="Seed">What was drawn from.</param>
/// <param name="Seconds">How long it took.</param>
/// <param name="IsComplete">False if it was stopped before the end.</param>
public sealed record AuditResult(
    AuditSubject Subject, IReadOnlyList<AuditAxisResult> Axes, int PromptTokens, int NewTokens, int Seed, double Seconds, bool IsComplete)
{
    /// <summary>What the two counts of an axis mean, for readers of a report.</summary>
    public const string ComparedWith =
        "Different: from the text alone in its batch. By this alone: from the same batch without what the axis varies, so that what the number of rows changes does not count.";

    /// <summary>The nodes that make the difference, an axis each, in the order of the axes; empty where there is none, or nobody asked.</summary>
    public IReadOnlyList<BlameResult> Blames { get; init; } = [];

    /// <summary>The blame of the axis whose logits differ most; null if there is none.</summary>
    [JsonIgnore]
    public BlameResult? Blame => Blames.MaxBy(blame => Axes.FirstOrDefault(axis => axis.Id == blame.AxisId)?.MaxLogitDifference ?? 0);

    /// <summary>Whether something was compared and nothing differed.</summary>
    [JsonIgnore]
    public bool IsInvariant => Axes.Any(axis => axis.ElementsCompared > 0) && Axes.All(axis => !axis.Varies);
}
