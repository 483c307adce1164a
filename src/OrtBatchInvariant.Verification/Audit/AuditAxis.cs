using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>How the batches of an axis are run.</summary>
internal enum AxisMode
{
    /// <summary>One after the other in one session.</summary>
    InTurn,

    /// <summary>All at once in one session, each on a thread of its own, over and over.</summary>
    AtOnce,

    /// <summary>As <see cref="AtOnce"/>, but each in a session of its own, every other with CUDA graphs, beside copies to the device and back.</summary>
    Sessions,

    /// <summary>Each in a process of its own.</summary>
    FreshProcess,
}

/// <summary>One thing that must not change a logit, and the batches that change it and nothing else.</summary>
public sealed class AuditAxis
{
    private AuditAxis(string id, string name, Func<AuditText, string> values, string baseline, Func<AuditText, IEnumerable<BatchPlan>> plans)
    {
        Id = id;
        Name = name;
        Values = values;
        Baseline = baseline;
        Plans = plans;
    }

    /// <summary>Every axis, in the order of a report.</summary>
    public static IReadOnlyList<AuditAxis> All { get; } =
    [
        new("batch-size", "batch size", text => $"1 to {text.MaxRows} rows, the text in about half of them", "the text alone", AxisPlans.BatchSizes),
        new("row-position", "row position", text => $"each of {AxisPlans.Rows(text, 8)} rows", "the same rows, the text in the first", AxisPlans.RowPositions),
        new("neighbours", "neighbours", text => text.Options.HostileTokens.Count > 0 ? "random, all alike, NaN and infinite" : "random, all alike", "the same rows, other neighbours", AxisPlans.Neighbours),
        new("padding", "right padding", _ => "neighbours longer by up to 130 tokens, or of 1 token", "the same rows, all equally long", AxisPlans.Padding)
        {
            Refusal = text => text.Shape.TakesUnequalRows ? null : DecoderShape.WhyEqualRows,
        },
        new("chunked-prefill", "chunked prefill", _ => "chunks of 1 to 129 tokens, 1 row and 3", "the same rows, the prompt at once", AxisPlans.Chunks) { Refusal = NeedsCache },
        new("prefill-decode", "prefill against decode", text => text.Shape.HasCache ? "prompts of 1 token to all, the rest token by token" : "the text so far after each token", "the text alone", AxisPlans.PromptLengths),
        new("speculation", "one token against k+1", _ => "k+1 of 2 to 9 at once, 1 row and 4", "the same rows, token by token", AxisPlans.Speculation) { Refusal = NeedsCache },
        new("kv-buffer", "KV buffer length", _ => "0 to 1000 tokens to spare", "the same rows, nothing to spare", AxisPlans.Capacities) { Refusal = NeedsBuffer },
        new("fixed-shapes", "fixed shapes", _ => "attention mask over the whole KV buffer", "the same rows, a mask that grows", AxisPlans.FixedSteps) { Refusal = NeedsBuffer },
        new("cuda-graph", "CUDA graph", _ => "decode steps replayed from a graph", "the same rows without a graph", AxisPlans.CudaGraphs)
        {
            Refusal = text => text.IsOnGpu ? NeedsBuffer(text) : "needs a GPU",
        },
        new("single-nodes", "nodes by themselves", _ => "each node a kernel, against groups of nodes in one", "the same rows, groups of nodes in one", AxisPlans.SingleNodes)
        {
            Refusal = text => text.IsStock ? "groups of nodes are the batch-invariant provider's" : NeedsBuffer(text),
        },
        new("threads", "threads", _ => $"{string.Join(", ", AxisPlans.ThreadCounts)} threads for an operator", "the same rows, the usual threads", AxisPlans.Threads)
        {
            Refusal = text => text.IsOnGpu ? "threads of an operator are the CPU's" : null,
        },
        new("concurrency", "several threads", text => $"{AxisPlans.Concurrent(text).Count()} batches at once in one session", "the same batch, nothing beside it", AxisPlans.Concurrent)
        {
            Mode = AxisMode.AtOnce,
        },
        new("sessions", "several sessions", _ => "4 sessions at once, two of them with CUDA graphs, beside copies to the device and back", "the same batch, nothing beside it", AxisPlans.Sessions)
        {
            Mode = AxisMode.Sessions,
            Refusal = text => text.IsOnGpu ? NeedsBuffer(text) : "needs a GPU",
        },
        new("repeats", "repeated runs", _ => "the same batch over and over", "its first run", AxisPlans.Repeats),
        new("fresh-process", "fresh process", _ => "the text alone, in new processes", "the text alone", AxisPlans.Fresh)
        {
            Mode = AxisMode.FreshProcess,
            Refusal = text => text.Options.FreshProcess is null ? "no program was named that runs the text anew" : null,
        },
    ];

    /// <summary>The name that a command line takes.</summary>
    public string Id { get; }

    /// <summary>A short name.</summary>
    public string Name { get; }

    /// <summary>The values that it takes, in words.</summary>
    internal Func<AuditText, string> Values { get; }

    /// <summary>What its batches are also compared with, in words: the same batch without what the axis varies.</summary>
    internal string Baseline { get; }

    internal Func<AuditText, IEnumerable<BatchPlan>> Plans { get; }

    internal AxisMode Mode { get; private init; }

    /// <summary>Why the axis makes no sense for a model; null if it does.</summary>
    internal Func<AuditText, string?> Refusal { get; private init; } = _ => null;

    /// <summary>The axes of some names.</summary>
    /// <param name="ids">Each an <see cref="Id"/>.</param>
    /// <exception cref="VerificationException">There is no axis of a name.</exception>
    public static IReadOnlyList<AuditAxis> Parse(IEnumerable<string> ids) =>
    [
        .. ids.Select(id => All.FirstOrDefault(axis => axis.Id == id)
            ?? throw new VerificationException($"There is no axis '{id}': use {string.Join(", ", All.Select(axis => axis.Id))}.")),
    ];

    private static string? NeedsCache(AuditText text) => text.Shape.HasCache ? null : text.Shape.WhyNoBuffer;

    private static string? NeedsBuffer(AuditText text) => text.Shape.SharesBuffer ? null : text.Shape.WhyNoBuffer;
}
