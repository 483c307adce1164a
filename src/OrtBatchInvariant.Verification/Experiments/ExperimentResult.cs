using OrtBatchInvariant.Verification.Completions;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Experiments;

/// <summary>What a model did with one set of kernels.</summary>
/// <param name="Kernels">Whose kernels ran it.</param>
/// <param name="Axes">The results, an axis each.</param>
/// <param name="All">The results over all runs together, whatever differed between them.</param>
/// <param name="GeneratedTokens">Tokens generated in all runs but those of other numbers of threads.</param>
/// <param name="Generation">The time that GenAI took for them, prefill included.</param>
/// <param name="PromptCount">The number of prompts.</param>
/// <param name="Parting">Two completions of one prompt that differ, if the model has a tokenizer and there are any.</param>
public sealed record ExperimentResult(
    KernelSet Kernels,
    IReadOnlyList<AxisResult> Axes,
    AxisResult All,
    long GeneratedTokens,
    TimeSpan Generation,
    int PromptCount,
    PartingTexts? Parting)
{
    /// <summary>Tokens generated in a second.</summary>
    public double TokensPerSecond => GeneratedTokens / Generation.TotalSeconds;

    /// <summary>Whether every prompt had one answer, to the byte, in all runs.</summary>
    public bool IsInvariant => All.UniqueLogits == 1 && Axes.All(axis => axis.UniqueLogits == 1 && axis.UniqueCompletions == 1);
}

/// <summary>The two completions of one prompt that part first.</summary>
/// <param name="Prompt">The prompt.</param>
/// <param name="Alone">Its completion alone in its batch.</param>
/// <param name="Other">Another completion of it.</param>
/// <param name="OtherRun">What was special about the run that the other is from.</param>
public sealed record PartingTexts(string Prompt, string Alone, string Other, string OtherRun);

/// <summary>What the runs of one axis came to. Different answers are counted a prompt at a time; the worst prompt counts.</summary>
/// <param name="Name">The axis.</param>
/// <param name="Description">What differed from run to run.</param>
/// <param name="Completions">The number of completions.</param>
/// <param name="UniqueLogits">How many different logits, as bytes over the whole completion, one prompt had at most.</param>
/// <param name="UniqueCompletions">How many different token sequences one prompt had at most.</param>
/// <param name="LogitsCompared">The number of logits that went into the comparison.</param>
public sealed record AxisResult(string Name, string Description, int Completions, int UniqueLogits, int UniqueCompletions, long LogitsCompared)
{
    internal static AxisResult From(string name, string description, IReadOnlyCollection<Completion> completions)
    {
        ILookup<int, Completion> byPrompt = completions.ToLookup(completion => completion.Prompt);
        if (!byPrompt.Any(prompt => prompt.Skip(1).Any()))
        {
            throw new VerificationException($"Axis '{name}' has no two completions of one prompt to compare: use longer prompts or a model with a longer context.");
        }

        return new AxisResult(
            name,
            description,
            completions.Count,
            byPrompt.Max(prompt => prompt.DistinctBy(completion => completion.LogitsDigest).Count()),
            byPrompt.Max(prompt => prompt.DistinctBy(completion => completion.TokenKey).Count()),
            completions.Sum(completion => completion.LogitsCount));
    }
}
