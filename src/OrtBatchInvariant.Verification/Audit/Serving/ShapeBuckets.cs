namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>The few shapes that runs are padded to.</summary>
internal sealed class ShapeBuckets
{
    private const int FewestTokens = 32;

    // Requests that are prefilled in one run: more would make shapes that hardly ever come again.
    private const int MostPrefills = 8;

    private readonly IReadOnlyList<int> _rows;
    private readonly IReadOnlyList<int> _tokens;

    /// <param name="maxRows">The most requests that run together.</param>
    /// <param name="capacity">The most tokens of a request.</param>
    public ShapeBuckets(int maxRows, int capacity)
    {
        _rows = Doubled(1, maxRows);
        _tokens = Doubled(FewestTokens, capacity);
    }

    /// <summary>Shapes of a run that takes one token of each request.</summary>
    public int StepShapes => _rows.Count;

    /// <summary>Shapes of a run that takes prompts.</summary>
    public int PrefillShapes => _rows.Count(rows => rows <= MostPrefills) * _tokens.Count;

    /// <summary>Rows of a run of so many requests.</summary>
    public int Rows(int requests) => _rows.First(rows => rows >= requests);

    /// <summary>Tokens that the longest text of so many is padded to.</summary>
    public int Tokens(int longest) => _tokens.First(tokens => tokens >= longest);

    /// <summary>How many requests that wait are prefilled in the next run, and with how many rows.</summary>
    /// <param name="waiting">Requests that wait.</param>
    /// <param name="room">Rows that are free; as many or more.</param>
    public (int Requests, int Rows) Prefill(int waiting, int room)
    {
        int requests = Math.Min(waiting, MostPrefills);
        int rows = Rows(requests);
        if (rows > room)
        {
            requests = rows = _rows.Last(fewer => fewer <= requests);
        }

        return (requests, rows);
    }

    private static IReadOnlyList<int> Doubled(int first, int last)
    {
        var sizes = new List<int>();
        for (int size = first; size < last; size *= 2)
        {
            sizes.Add(size);
        }

        return [.. sizes, last];
    }
}
