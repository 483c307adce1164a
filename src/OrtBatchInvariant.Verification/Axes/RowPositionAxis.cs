using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>The prompt in each row of a batch in turn, beside the same neighbours.</summary>
internal sealed class RowPositionAxis : InvarianceAxis
{
    private const int Rows = 8;

    public override string Name => "row position";

    public override string Describe(AxisContext context) => $"row in the batch, 1 to {Rows}";

    public override IEnumerable<CompletionBatch> Batches(AxisContext context, int prompt)
    {
        int seed = context.Random(this, prompt).Next();
        int[] lengths = [.. Enumerable.Repeat(context.Prompts[prompt].Length, Rows - 1)];
        return Enumerable.Range(0, Rows)
            .Where(row => context.IsThorough(prompt) || row is 0 or 3 or Rows - 1)
            .Select(row => context.Among(prompt, row, lengths, new Random(seed)));
    }
}
