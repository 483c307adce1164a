using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>One thing that must not change an answer, and the batches that change it and nothing else.</summary>
public abstract class InvarianceAxis
{
    /// <summary>Every axis, in the order of a report.</summary>
    public static IReadOnlyList<InvarianceAxis> All { get; } =
    [
        new BatchSizeAxis(), new RowPositionAxis(), new NeighboursAxis(), new PaddingAxis(),
        new ChunkedPrefillAxis(), new PrefillDecodeAxis(), new KvBufferAxis(), new ThreadsAxis(),
    ];

    /// <summary>A short name, unique among axes.</summary>
    public abstract string Name { get; }

    /// <summary>What differs from run to run, in a few words for a table.</summary>
    public abstract string Describe(AxisContext context);

    /// <summary>The runs for one prompt. All its completions in them must be the same, to the byte.</summary>
    /// <param name="context">The prompts and what is known of them.</param>
    /// <param name="prompt">The number of the prompt.</param>
    public abstract IEnumerable<CompletionBatch> Batches(AxisContext context, int prompt);
}
