using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>The same batch with different numbers of threads.</summary>
internal sealed class ThreadsAxis : InvarianceAxis
{
    private const int Rows = 4;

    private static readonly int[] s_threads = [1, 2, 4];

    public override string Name => "threads";

    public override string Describe(AxisContext context) => $"threads: {string.Join(", ", s_threads)}";

    public override IEnumerable<CompletionBatch> Batches(AxisContext context, int prompt) =>
        s_threads.Select(threads => context.Copies(prompt, Rows) with { Threads = threads });
}
