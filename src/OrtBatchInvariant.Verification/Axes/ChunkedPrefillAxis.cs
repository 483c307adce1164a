using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>The prompt in one prefill step, and in steps of each size.</summary>
internal sealed class ChunkedPrefillAxis : InvarianceAxis
{
    private static readonly int[] s_few = [1, 3, 8, 100];
    private static readonly int[] s_sizes = [.. Enumerable.Range(1, 24), 31, 32, 33, 63, 64, 65, 100, 127, 128];

    public override string Name => "chunked prefill";

    public override string Describe(AxisContext context) => "prefill in chunks (chunk_size)";

    public override IEnumerable<CompletionBatch> Batches(AxisContext context, int prompt)
    {
        int length = context.Prompts[prompt].Length;
        int[] sizes = context.IsThorough(prompt) ? s_sizes : s_few;
        return sizes
            .Where(size => size < length)
            .Select(size => context.Copies(prompt, 1) with { ChunkSize = size })
            .Prepend(context.Copies(prompt, 1));
    }
}
