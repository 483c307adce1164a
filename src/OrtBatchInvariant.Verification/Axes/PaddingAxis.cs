using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>Neighbours of which one is longer, by more each time, so that the prompt is padded.</summary>
internal sealed class PaddingAxis : InvarianceAxis
{
    private const int Rows = 4;
    private const int Row = 1;

    private static readonly int[] s_padding = [0, 1, 2, 3, 5, 8, 16, 31, 64, 100];
    private static readonly int[] s_quick = [0, 1, 16, 64];

    public override string Name => "padding";

    public override string Describe(AxisContext context) => $"padding, 0 to {Values(context).Max()} tokens";

    public override IEnumerable<CompletionBatch> Batches(AxisContext context, int prompt)
    {
        int length = context.Prompts[prompt].Length;
        Random random = context.Random(this, prompt);
        foreach (int padding in Values(context).Where(padding => length + padding + context.NewTokens <= context.Folder.ContextLength))
        {
            yield return context.Among(prompt, Row, [.. Enumerable.Repeat(length, Rows - 2), length + padding], random);
        }
    }

    private static int[] Values(AxisContext context) => context.IsQuick ? s_quick : s_padding;
}
