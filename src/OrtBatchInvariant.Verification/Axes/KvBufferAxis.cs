using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>KV buffers of different lengths.</summary>
internal sealed class KvBufferAxis : InvarianceAxis
{
    private static readonly int[] s_spare = [0, 1, 3, 17, 64, 100, 128, 255, 256, 512, 1000, 2048, 4000];
    private static readonly int[] s_few = [0, 1, 100, 256];

    public override string Name => "max_length";

    public override string Describe(AxisContext context) => "KV buffer length (max_length)";

    public override IEnumerable<CompletionBatch> Batches(AxisContext context, int prompt)
    {
        int needed = context.Prompts[prompt].Length + context.NewTokens;
        return (context.IsThorough(prompt) ? s_spare : s_few)
            .Where(spare => needed + spare <= context.Folder.ContextLength)
            .Select(spare => context.Copies(prompt, 1) with { MaxLength = needed + spare });
    }
}
