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
    private AuditAxis(string id, string name, Func<AuditText, string> values, Func<AuditText, IEnumerable<BatchPlan>> plans)
    {
        Id = id;
        Name = name;
        Values = values;
        Plans = plans;
    }

    /// <summary>Every axis, in the order of a report.</summary>
    public static IReadOnlyList<AuditAxis> All { get; } =
    [
        new("batch-size", "batch size", text => $"1 to {text.MaxRows} rows, the text in about half of them", AxisPlans.BatchSizes),
        new("row-position", "row position", text => $"each of {AxisPlans.Rows(text, 8)} rows", AxisPlans.RowPositions),
        new("neighbours", "neighbours", text => text.Options.HostileTokens.Count > 0 ? "random, all alike, NaN and infinite" : "random, all alike", AxisPlans.Neighbours),
        new("padding", "right padding", _ => "neighbours longer by up to 130 tokens, or of 1 token", AxisPlans.Padding),
        new("chunked-prefill", "chunked prefill", _ => "chunks of 1 to 129 tokens, 1 row and 3", AxisPlans.Chunks),
        new("prefill-decode", "prefill against decode", _ => "prompts of 1 token to all, the rest token by token", AxisPlans.PromptLengths),
        new("speculation", "one token against k+1", _ => "k+1 of 2 to 9 at once, 1 row and 4", AxisPlans.Speculation),
        new("kv-buffer", "KV buffer length", _ => "0 to 1000 tokens to spare", AxisPlans.Capacities) { Refusal = NeedsBuffer },
        new("fixed-shapes", "fixed shapes", _ => "attention mask over the whole KV buffer", text => AxisPlans.FixedSteps(text)) { Refusal = NeedsBuffer },
        new("cuda-graph", "CUDA graph", _ => "decode steps replayed from a graph", text => AxisPlans.FixedSteps(text).Select(plan => plan with { CudaGraph = true }))
        {
            Refusal = text => text.IsOnGpu ? NeedsBuffer(text) : "needs a GPU",
        },
        new("single-nodes", "nodes by themselves", _ => "each node a kernel, against groups of nodes in one", text => AxisPlans.FixedSteps(text).Select(plan => plan with { SingleNodes = true }))
        {
            Refusal = text => text.IsStock ? "groups of nodes are the batch-invariant provider's" : NeedsBuffer(text),
        },
        new("threads", "threads", _ => $"{string.Join(", ", AxisPlans.ThreadCounts)} threads for an operator", AxisPlans.Threads)
        {
            Refusal = text => text.IsOnGpu ? "threads of an operator are the CPU's" : null,
        },
        new("concurrency", "several threads", text => $"{AxisPlans.Concurrent(text).Count()} batches at once in one session", AxisPlans.Concurrent)
        {
            Mode = AxisMode.AtOnce,
        },
        new("sessions", "several sessions", _ => "4 sessions at once, two of them with CUDA graphs, beside copies to the device and back", AxisPlans.Sessions)
        {
            Mode = AxisMode.Sessions,
            Refusal = text => text.IsOnGpu ? NeedsBuffer(text) : "needs a GPU",
        },
        new("repeats", "repeated runs", _ => "the same batch over and over", AxisPlans.Repeats),
        new("fresh-process", "fresh process", _ => "the text alone, in new processes", AxisPlans.Fresh)
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

    private static string? NeedsBuffer(AuditText text) => text.Shape.SharesBuffer ? null : text.Shape.WhyNoBuffer;
}
