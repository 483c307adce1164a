using System.Text.Json.Serialization;

namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>How requests come to a server.</summary>
public enum Arrivals
{
    /// <summary>At random: a Poisson-distributed number before each step. Requests join the running batch and leave it when they are done.</summary>
    Poisson,

    /// <summary>In batches, each of which starts when the one before is done.</summary>
    Batches,
}

/// <summary>What a <see cref="ServingExperiment"/> runs.</summary>
public sealed record ServingOptions
{
    /// <summary>The prompt that is completed over and over, as tokens.</summary>
    public required IReadOnlyList<int> Prompt { get; init; }

    /// <summary>Completions of the prompt with each way of choosing tokens.</summary>
    /// <value>The default is 1,000.</value>
    public int Completions { get; init; } = 1000;

    /// <summary>Tokens of a completion; tokens that end a text do not end it here.</summary>
    /// <value>The default is 64.</value>
    public int NewTokens { get; init; } = 64;

    /// <summary>The most requests that run together.</summary>
    /// <value>The default is 16.</value>
    public int MaxRows { get; init; } = 16;

    /// <summary>How requests come.</summary>
    public Arrivals Arrivals { get; init; } = Arrivals.Poisson;

    /// <summary>
    /// Whether runs are padded to a few shapes, as servers do where kernels are built, looked for or captured for each shape: batches to
    /// 1, 2, 4, ... requests, prompts to 32, 64, 128, ... tokens, attention masks to the whole KV buffer. The first run of each shape is
    /// then not timed. The model's KV cache must be one buffer for past and present.
    /// </summary>
    /// <value>The default is <see langword="false"/>: every run has the shape of what runs.</value>
    public bool PadsToBuckets { get; init; }

    /// <summary>
    /// How likely it is, in each step, that a running request is put back into the queue, as servers do that run out of memory. It goes
    /// on with a prefill of its prompt and of all tokens that it has so far.
    /// </summary>
    /// <value>The default is 0.05.</value>
    public double Preemption { get; init; } = 0.05;

    /// <summary>The temperature of sampled completions.</summary>
    /// <value>The default is 0.8.</value>
    public double Temperature { get; init; } = 0.8;

    /// <summary>What arrivals and neighbours are drawn from.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>What sampling starts from in every completion.</summary>
    public int SamplingSeed { get; init; } = 42;

    /// <exception cref="VerificationException">There is nothing to compare.</exception>
    internal void Check()
    {
        if (Prompt.Count == 0 || Completions < 2 || NewTokens < 1 || MaxRows < 1)
        {
            throw new VerificationException("A prompt, 2 or more completions of 1 or more tokens and 1 or more rows are needed to compare anything.");
        }
    }
}

/// <summary>What one way of choosing tokens came to.</summary>
/// <param name="Decoding">How tokens were chosen, in words.</param>
/// <param name="Completions">Completions of the prompt.</param>
/// <param name="DistinctLogits">Different logits among them, as bytes over the whole completion; null where the engine gives none.</param>
/// <param name="DistinctTexts">Different token sequences among them.</param>
/// <param name="FirstDifferentLogits">The first token, counted from 0, whose logits differ from those of the prompt alone in its batch;
/// null if none does.</param>
/// <param name="FirstDifferentToken">The first token, counted from 0, that differs; null if none does.</param>
/// <param name="BatchSizes">The same by the number of requests that ran together, averaged over a completion.</param>
public sealed record DecodingResult(
    string Decoding,
    int Completions,
    int? DistinctLogits,
    int DistinctTexts,
    int? FirstDifferentLogits,
    int? FirstDifferentToken,
    IReadOnlyList<BatchSizeCount> BatchSizes)
{
    /// <summary>The different answers themselves; null in reports that were written before there was this.</summary>
    public DistinctAnswers? Answers { get; init; }

    /// <summary>Whether all that was seen of the completions was the same.</summary>
    [JsonIgnore]
    public bool IsInvariant => DistinctTexts == 1 && (DistinctLogits ?? 1) == 1;
}

/// <summary>The different answers to one prompt, numbered from 0 as they came; number 0 is what the prompt gets alone in its batch.</summary>
/// <param name="LogitsOfCompletions">For each completion, in the order in which they ended, the number of its logits.</param>
/// <param name="TextOfLogits">For each of the different logits the number of the text that was chosen from them.</param>
/// <param name="TextTokens">The tokens of each of the different texts.</param>
public sealed record DistinctAnswers(
    IReadOnlyList<int> LogitsOfCompletions, IReadOnlyList<int> TextOfLogits, IReadOnlyList<IReadOnlyList<int>> TextTokens)
{
    /// <summary>Each of the different texts in words; null where there was no tokenizer.</summary>
    public IReadOnlyList<string>? Texts { get; init; }

    /// <summary>Number of completions that got a text.</summary>
    /// <param name="text">The number of the text.</param>
    public int CompletionsWith(int text) => LogitsOfCompletions.Count(logits => TextOfLogits[logits] == text);
}

/// <summary>What completing one prompt many times among others came to.</summary>
/// <param name="Subject">What ran.</param>
/// <param name="Decodings">Temperature 0, and sampled.</param>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="NewTokens">Tokens of a completion.</param>
/// <param name="Requests">All requests, neighbours included.</param>
/// <param name="Preemptions">How often a running request was put back into the queue.</param>
/// <param name="LargestBatch">The most requests that ran together.</param>
/// <param name="LogitsCompared">Logits that went into the comparison.</param>
/// <param name="GeneratedTokens">Tokens generated, those of neighbours included.</param>
/// <param name="TimedTokens">Tokens generated in <paramref name="ModelSeconds"/>.</param>
/// <param name="ModelSeconds">The time that the model took, prefill included; without the first run of each shape where runs are padded.</param>
/// <param name="Seconds">The time that everything took.</param>
/// <param name="Shapes">Different shapes of runs: rows, tokens, and the length of the attention mask; 0 where they are not seen.</param>
/// <param name="PadsToBuckets">Whether runs were padded to a few shapes.</param>
/// <param name="Arrivals">How requests came.</param>
/// <param name="Seed">What was drawn from.</param>
/// <param name="IsComplete">False if it was stopped before the end.</param>
public sealed record ServingResult(
    AuditSubject Subject,
    IReadOnlyList<DecodingResult> Decodings,
    int PromptTokens,
    int NewTokens,
    int Requests,
    int Preemptions,
    int LargestBatch,
    long LogitsCompared,
    long GeneratedTokens,
    long TimedTokens,
    double ModelSeconds,
    double Seconds,
    int Shapes,
    bool PadsToBuckets,
    string Arrivals,
    int Seed,
    bool IsComplete)
{
    /// <summary>What made the batches, if it was not the experiment itself.</summary>
    public string? Engine { get; init; }

    /// <summary>Whose kernels ran, and in what.</summary>
    [JsonIgnore]
    public string Kernels => Engine is null ? Subject.Provider : $"{Subject.Provider}, in {Engine}";

    /// <summary>Tokens generated in a second of the model's time.</summary>
    public double TokensPerSecond => ModelSeconds > 0 ? Math.Round(TimedTokens / ModelSeconds, 1) : 0;

    /// <summary>Whether each way of choosing tokens gave one answer, to the byte of its logits.</summary>
    public bool IsInvariant => Decodings.All(decoding => decoding is { Completions: > 1, IsInvariant: true });
}
