using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>The prompt in every row of batches of growing size.</summary>
internal sealed class BatchSizeAxis : InvarianceAxis
{
    private const int Largest = 32;

    private static readonly int[] s_few = [1, 2, 5, 16, Largest];

    public override string Name => "batch size";

    public override string Describe(AxisContext context) => $"batch size, 1 to {Largest}";

    public override IEnumerable<CompletionBatch> Batches(AxisContext context, int prompt) =>
        (context.IsThorough(prompt) ? Enumerable.Range(1, Largest) : s_few).Select(size => context.Copies(prompt, size));
}
