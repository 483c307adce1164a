using OrtBatchInvariant.Verification.Completions;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>What the batches of an axis are made from.</summary>
/// <param name="Folder">The model.</param>
/// <param name="Prompts">The prompts, as tokens.</param>
/// <param name="NewTokens">The number of tokens of a completion.</param>
/// <param name="ThoroughPrompts">For how many prompts, from the first, an axis tries many values; for the others it tries few.</param>
/// <param name="Seed">What neighbours are drawn from: the same seed gives the same batches.</param>
public sealed record AxisContext(ModelFolder Folder, IReadOnlyList<int[]> Prompts, int NewTokens, int ThoroughPrompts, int Seed)
{
    /// <summary>The completion of each prompt, alone in its batch with the kernels under test.</summary>
    public IReadOnlyList<Completion> Alone { get; init; } = [];

    /// <summary>Whether an axis tries many values for a prompt, or few.</summary>
    public bool IsThorough(int prompt) => prompt < ThoroughPrompts;

    /// <summary>A batch of rows that are all looked at.</summary>
    internal CompletionBatch Copies(int prompt, int rows) =>
        new([.. Enumerable.Repeat(new CompletionRow(Prompts[prompt], prompt), rows)], NewTokens);

    /// <summary>A batch with the prompt in one row and neighbours of given lengths in the others.</summary>
    internal CompletionBatch Among(int prompt, int row, IReadOnlyList<int> neighbourLengths, Random random)
    {
        List<CompletionRow> rows = [.. neighbourLengths.Select(length => new CompletionRow(RandomTokens.Draw(Folder, length, random), null))];
        rows.Insert(row, new CompletionRow(Prompts[prompt], prompt));
        return new CompletionBatch(rows, NewTokens);
    }

    /// <summary>The random numbers of an axis for a prompt.</summary>
    internal Random Random(InvarianceAxis axis, int prompt) =>
        new(Seed ^ (prompt * 7919) ^ axis.Name.Aggregate(17, (hash, letter) => (hash * 31) + letter));
}
