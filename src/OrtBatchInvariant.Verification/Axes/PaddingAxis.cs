using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>Neighbours of which one is longer, by more each time, so that the prompt is padded.</summary>
internal sealed class PaddingAxis : InvarianceAxis
{
    private const int Rows = 4;
    private const int Row = 1;

    private static readonly int[] s_padding = [0, 1, 2, 3, 5, 8, 16, 31, 64, 100];
    private static readonly int[] s_few = [0, 1, 16, 64];

    public override string Name => "padding";

    public override string Describe(AxisContext context) => $"padding, 0 to {(context.IsThorough(0) ? s_padding : s_few)[^1]} tokens";

    public override IEnumerable<CompletionBatch> Batches(AxisContext context, int prompt)
    {
        int length = context.Prompts[prompt].Length;
        Random random = context.Random(this, prompt);
        IEnumerable<int> values = context.IsThorough(prompt) ? s_padding : s_few;
        foreach (int padding in values.Where(padding => length + padding + context.NewTokens <= context.Folder.ContextLength))
        {
            yield return context.Among(prompt, Row, [.. Enumerable.Repeat(length, Rows - 2), length + padding], random);
        }
    }
}
