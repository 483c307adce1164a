using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>The prompt in one prefill step, and in steps of each size.</summary>
internal sealed class ChunkedPrefillAxis : InvarianceAxis
{
    private static readonly int[] s_quick = [1, 3, 8];

    public override string Name => "chunked prefill";

    public override string Describe(AxisContext context) => "prefill in chunks (chunk_size)";

    public override IEnumerable<CompletionBatch> Batches(AxisContext context, int prompt)
    {
        int length = context.Prompts[prompt].Length;
        IEnumerable<int> sizes = context.IsQuick ? s_quick : Enumerable.Range(1, 24);
        return sizes
            .Where(size => size < length)
            .Select(size => context.Copies(prompt, 1) with { ChunkSize = size })
            .Prepend(context.Copies(prompt, 1));
    }
}
