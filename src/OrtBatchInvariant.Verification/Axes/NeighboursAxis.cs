using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>The prompt in one row, beside other neighbours each time.</summary>
internal sealed class NeighboursAxis : InvarianceAxis
{
    private const int Rows = 8;
    private const int Row = 3;

    public override string Name => "neighbours";

    public override string Describe(AxisContext context) => "other prompts beside it";

    public override IEnumerable<CompletionBatch> Batches(AxisContext context, int prompt)
    {
        Random random = context.Random(this, prompt);
        int[] lengths = [.. Enumerable.Repeat(context.Prompts[prompt].Length, Rows - 1)];
        for (int draw = 0; draw < (context.IsThorough(prompt) ? 12 : 3); draw++)
        {
            yield return context.Among(prompt, Row, lengths, random);
        }
    }
}
