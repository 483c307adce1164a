using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Axes;

/// <summary>
/// The prompt followed by the first tokens of its own completion, by one more each time: the same logits come once from the prefill of
/// the text and once from decoding it token by token.
/// </summary>
internal sealed class PrefillDecodeAxis : InvarianceAxis
{
    public override string Name => "prefill against decode";

    public override string Describe(AxisContext context) => "token by token, or all at once";

    public override IEnumerable<CompletionBatch> Batches(AxisContext context, int prompt)
    {
        IReadOnlyList<int> completion = context.Alone[prompt].Tokens;
        return Enumerable.Range(0, completion.Count)
            .Where(forced => context.IsThorough(prompt) || forced % 8 == 0 || forced == completion.Count - 1)
            .Select(forced => new CompletionBatch(
                [new CompletionRow([.. context.Prompts[prompt], .. completion.Take(forced)], prompt)], context.NewTokens) { Forced = forced });
    }
}
