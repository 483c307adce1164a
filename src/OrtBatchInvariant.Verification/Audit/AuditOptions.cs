namespace OrtBatchInvariant.Verification.Audit;

/// <summary>What an <see cref="InvarianceAudit"/> runs.</summary>
public sealed record AuditOptions
{
    /// <summary>What is varied.</summary>
    /// <value>The default is every axis; those that make no sense on the device are reported as not run.</value>
    public IReadOnlyList<AuditAxis> Axes { get; init; } = AuditAxis.All;

    /// <summary>Tokens of the prompt, which is drawn from <see cref="Seed"/>.</summary>
    /// <value>The default is 150, more than one block of 128 keys.</value>
    public int PromptTokens { get; init; } = 150;

    /// <summary>The prompt itself, as tokens, instead of a random one.</summary>
    public IReadOnlyList<int>? Prompt { get; init; }

    /// <summary>Tokens of the greedy completion that follows the prompt.</summary>
    /// <value>The default is 16.</value>
    public int NewTokens { get; init; } = 16;

    /// <summary>The largest batch. Fewer rows are taken where the logits of so many would not fit <see cref="LogitsBytes"/>.</summary>
    /// <value>The default is 64.</value>
    public int MaxRows { get; init; } = 64;

    /// <summary>Bytes that the logits of one run may take.</summary>
    /// <value>The default is 1 GiB.</value>
    public long LogitsBytes { get; init; } = 1L << 30;

    /// <summary>Whether each axis takes few values instead of many.</summary>
    public bool IsQuick { get; init; }

    /// <summary>What the prompt and the neighbours are drawn from.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Tokens whose embeddings are NaN or infinite: only neighbours get them.</summary>
    public IReadOnlyList<int> HostileTokens { get; init; } = [];

    /// <summary>
    /// Runs <see cref="FreshRun.Answer"/> in a new process, given the file with the request and the file to write the logits to. Without
    /// it the axis of a fresh process is not run.
    /// </summary>
    public Action<string, string>? FreshProcess { get; init; }

    /// <summary>Whether nodes are named that make a difference, for each axis along which there is one.</summary>
    public bool FindsBlame { get; init; } = true;

    /// <summary>Bytes of intermediate values that are held at a time while nodes are examined.</summary>
    /// <value>The default is 512 MiB.</value>
    public long BlameBytes { get; init; } = 512L << 20;

    /// <summary>How long nodes may be examined, for all axes together; what was found until then is reported, and that it is not all.</summary>
    /// <value>The default is 10 minutes.</value>
    public TimeSpan BlameTime { get; init; } = TimeSpan.FromMinutes(10);
}

/// <summary>How far an audit is.</summary>
/// <param name="Axis">What is being run.</param>
/// <param name="Done">Batches so far, in all axes.</param>
/// <param name="Total">Batches in all.</param>
public readonly record struct AuditProgress(string Axis, int Done, int Total);
