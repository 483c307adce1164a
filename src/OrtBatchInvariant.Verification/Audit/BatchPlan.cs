namespace OrtBatchInvariant.Verification.Audit;

/// <summary>One batch of an axis: which rows hold the text, and in which steps it is taken.</summary>
/// <param name="Rows">Number of rows.</param>
/// <param name="Prompt">Tokens of the text that the first run takes.</param>
/// <param name="Steps">Tokens that each later run takes.</param>
internal sealed record BatchPlan(int Rows, int Prompt, IReadOnlyList<int> Steps)
{
    /// <summary>Rows that hold the text; all by default.</summary>
    public Func<int, bool> HoldsText { get; init; } = _ => true;

    /// <summary>Tokens of a neighbour's prompt; as many as the text's by default.</summary>
    public Func<int, int>? NeighbourPrompt { get; init; }

    /// <summary>A neighbour's tokens are drawn from these; from the whole vocabulary by default.</summary>
    public IReadOnlyList<int>? NeighbourTokens { get; init; }

    /// <summary>Tokens that the KV buffer holds; just what is needed by default.</summary>
    public int? Capacity { get; init; }

    /// <summary>Whether single tokens are taken with fixed shapes and addresses, as CUDA graphs need.</summary>
    public bool FixedSteps { get; init; }

    /// <summary>Whether decode steps are replayed from a CUDA graph.</summary>
    public bool CudaGraph { get; init; }

    /// <summary>Whether the provider runs each node by itself, and no group of nodes as one kernel.</summary>
    public bool SingleNodes { get; init; }

    /// <summary>Threads that an operator may use; null for what the audit was given.</summary>
    public int? Threads { get; init; }

    public int Seed { get; init; }

    /// <summary>The same batch without what its axis varies; null where that is the text alone.</summary>
    public BatchPlan? Baseline { get; init; }

    /// <summary>Tokens of the first run and all later ones, in order.</summary>
    public IEnumerable<int> Runs => Steps.Prepend(Prompt);

    /// <summary>What is special about this batch, in a few words.</summary>
    public string Description
    {
        get
        {
            string steps = Steps.Distinct().ToArray() switch
            {
                [] => "",
                [1] => ", then token by token",
                [var size] => $", then {size} tokens at a time",
                _ => $", then {string.Join("+", Steps.Take(4))}{(Steps.Count > 4 ? "+..." : "")}",
            };
            string threads = Threads is { } count ? $", {count} threads" : "";
            return $"{Rows} {(Rows == 1 ? "row" : "rows")}, {Prompt} {(Prompt == 1 ? "token" : "tokens")} at once{steps}{threads}";
        }
    }
}
