namespace OrtBatchInvariant.Verification.Audit;

/// <summary>The batches of each axis.</summary>
internal static class AxisPlans
{
    public static int[] ThreadCounts { get; } = [1, 2, 4];

    /// <summary>A number of rows, or as many as fit.</summary>
    public static int Rows(AuditText text, int rows) => Math.Min(rows, text.MaxRows);

    public static IEnumerable<BatchPlan> BatchSizes(AuditText text)
    {
        int[] sizes = text.Options.IsQuick ? [1, 2, 3, 5, 8, 16, 17, 33, 64] : [.. Enumerable.Range(1, 64)];
        return sizes.Where(rows => rows <= text.MaxRows).Select(rows =>
        {
            var random = new Random(text.Options.Seed + rows);
            bool[] holds = [.. Enumerable.Range(0, rows).Select(_ => random.Next(2) == 0)];
            holds[random.Next(rows)] = true;
            return new BatchPlan(rows, text.PromptLength, Singles(text)) { HoldsText = row => holds[row], Seed = rows };
        });
    }

    public static IEnumerable<BatchPlan> RowPositions(AuditText text) => Enumerable.Range(0, Rows(text, 8))
        .Where(row => !text.Options.IsQuick || row is 0 or 3 or 7)
        .Select(position => new BatchPlan(Rows(text, 8), text.PromptLength, Singles(text)) { HoldsText = row => row == position, Seed = 100 });

    public static IEnumerable<BatchPlan> Neighbours(AuditText text)
    {
        IReadOnlyList<int> hostile = text.Options.HostileTokens;
        int draws = text.Options.IsQuick ? 2 : 8;
        int[][] alike = [[text.Tokens[0]], [text.Tokens[^1]], .. hostile.Select(token => new[] { token })];
        IEnumerable<IReadOnlyList<int>?> sets = Enumerable.Repeat<IReadOnlyList<int>?>(null, draws).Concat(alike);
        if (hostile.Count > 0)
        {
            sets = sets.Append([.. hostile, .. text.Tokens]);
        }

        int rows = Rows(text, 8);
        return sets.Select((tokens, i) => new BatchPlan(rows, text.PromptLength, Singles(text))
        {
            HoldsText = row => row == Math.Min(3, rows - 1), NeighbourTokens = tokens, Seed = 200 + i,
        });
    }

    public static IEnumerable<BatchPlan> Padding(AuditText text)
    {
        int[] lengths = text.Options.IsQuick ? [0, 1, 16, 130] : [0, 1, 2, 3, 5, 8, 16, 31, 63, 64, 100, 127, 128, 129, 130];
        return lengths.Select(extra => text.PromptLength + extra).Append(1)
            .Where(length => length + text.NewTokens <= text.Shape.ContextLength)
            .Select(length => new BatchPlan(Rows(text, 4), text.PromptLength, Singles(text))
            {
                HoldsText = row => row == Math.Min(1, Rows(text, 4) - 1) || row == 2,
                NeighbourPrompt = row => row == 0 ? length : Math.Max(1, length / 2),
                Seed = 300 + length,
            });
    }

    public static IEnumerable<BatchPlan> Chunks(AuditText text)
    {
        int[] sizes = text.Options.IsQuick ? [1, 7, 64] : [1, 2, 3, 7, 8, 16, 17, 31, 64, 100, 127, 128, 129];
        return sizes.Where(size => size < text.PromptLength)
            .SelectMany(size => new[] { 1, 3 }.Select(rows =>
            {
                var steps = new List<int>();
                for (int done = size; done < text.PromptLength; done += size)
                {
                    steps.Add(Math.Min(size, text.PromptLength - done));
                }

                return new BatchPlan(rows, size, [.. steps, .. Singles(text)]) { Seed = 400 + size };
            }));
    }

    public static IEnumerable<BatchPlan> PromptLengths(AuditText text)
    {
        int[] lengths = text.Options.IsQuick ? [1, 64, 129] : [1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 128, 129];
        return lengths.Where(length => length < text.PromptLength)
            .Select(length => new BatchPlan(1, length, [.. Enumerable.Repeat(1, text.Length - length)]))
            .Append(new BatchPlan(1, text.Length, []));
    }

    public static IEnumerable<BatchPlan> Speculation(AuditText text)
    {
        IEnumerable<int> sizes = text.Options.IsQuick ? [2, 5] : Enumerable.Range(2, 8);
        return sizes.Where(size => size <= text.NewTokens).SelectMany(size => new[] { 1, 4 }.Select(rows =>
        {
            int whole = text.NewTokens / size;
            return new BatchPlan(rows, text.PromptLength, [.. Enumerable.Repeat(size, whole), .. Enumerable.Repeat(1, text.NewTokens - (whole * size))])
            {
                HoldsText = row => row % 2 == 0,
                Seed = 500 + size,
            };
        }));
    }

    public static IEnumerable<BatchPlan> Capacities(AuditText text)
    {
        int[] spare = text.Options.IsQuick ? [0, 1, 100] : [0, 1, 2, 3, 17, 64, 100, 128, 255, 256, 512, 1000];
        return spare.Select(more => new BatchPlan(2, text.PromptLength, Singles(text)) { Capacity = text.Length + more, HoldsText = row => row == 1, Seed = 600 });
    }

    public static IEnumerable<BatchPlan> FixedSteps(AuditText text) => new[] { 1, 2, 8, 32 }
        .Where(rows => rows <= text.MaxRows && (!text.Options.IsQuick || rows < 32))
        .Select(count => new BatchPlan(count, text.PromptLength, Singles(text))
        {
            FixedSteps = true,
            Capacity = text.Length + 40,
            HoldsText = row => row % 3 == 0,
            NeighbourPrompt = row => Math.Max(1, text.PromptLength - (7 * row)),
            Seed = 700 + count,
        });

    public static IEnumerable<BatchPlan> Threads(AuditText text) => ThreadCounts
        .SelectMany(threads => new[] { 1, 4 }.Select(rows => new BatchPlan(Rows(text, rows), text.PromptLength, Singles(text)) { Threads = threads, Seed = 750 }));

    public static IEnumerable<BatchPlan> Concurrent(AuditText text) => Enumerable.Range(0, 4)
        .Select(thread => new BatchPlan(Rows(text, 1 + (3 * thread)), text.PromptLength, Singles(text))
        {
            HoldsText = row => row == Math.Min(thread, text.MaxRows - 1), Seed = 900 + thread,
        });

    public static IEnumerable<BatchPlan> Sessions(AuditText text) => Concurrent(text)
        .Select((plan, thread) => plan with { CudaGraph = thread % 2 == 1, FixedSteps = thread % 2 == 1 });

    public static IEnumerable<BatchPlan> Repeats(AuditText text) => Enumerable.Repeat(
        new BatchPlan(Rows(text, 4), text.PromptLength, Singles(text)) { HoldsText = row => row == Math.Min(2, Rows(text, 4) - 1), Seed = 800 }, text.Options.IsQuick ? 3 : 10);

    public static IEnumerable<BatchPlan> Fresh(AuditText text) => Enumerable.Repeat(Alone(text), text.Options.IsQuick ? 1 : 2);

    /// <summary>What everything is compared with: the prompt alone in its batch in one run, the rest token by token.</summary>
    public static BatchPlan Alone(AuditText text) => new(1, text.PromptLength, Singles(text));

    private static int[] Singles(AuditText text) => [.. Enumerable.Repeat(1, text.NewTokens)];
}
