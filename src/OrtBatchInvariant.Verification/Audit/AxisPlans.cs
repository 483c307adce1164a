namespace OrtBatchInvariant.Verification.Audit;

/// <summary>
/// The batches of each axis. Each knows its baseline, the same batch without what the axis varies, so that what the axis does by itself
/// can be told from what the number of rows does.
/// </summary>
internal static class AxisPlans
{
    public static int[] ThreadCounts { get; } = [1, 2, 4];

    /// <summary>A number of rows, or as many as fit.</summary>
    public static int Rows(AuditText text, int rows) => Math.Min(rows, text.MaxRows);

    public static IEnumerable<BatchPlan> BatchSizes(AuditText text)
    {
        IEnumerable<int> sizes = text.Options.IsQuick ? [1, 2, 3, 5, 8, 16, 17, 33, 64] : Enumerable.Range(1, 64);
        for (int rows = 128; rows <= text.MaxRows; rows *= 2)
        {
            sizes = sizes.Append(rows);
        }

        return sizes.Where(rows => rows < text.MaxRows).Append(text.MaxRows).Select(rows =>
        {
            var random = new Random(text.Options.Seed + rows);
            bool[] holds = [.. Enumerable.Range(0, rows).Select(_ => random.Next(2) == 0)];
            holds[random.Next(rows)] = true;
            return Batch(text, rows) with { HoldsText = row => holds[row], Seed = rows };
        });
    }

    public static IEnumerable<BatchPlan> RowPositions(AuditText text)
    {
        BatchPlan first = Batch(text, Rows(text, 8)) with { HoldsText = row => row == 0, Seed = 100 };
        return Enumerable.Range(1, Rows(text, 8) - 1)
            .Where(row => !text.Options.IsQuick || row is 3 or 7)
            .Select(position => first with { HoldsText = row => row == position, Baseline = first })
            .Prepend(first);
    }

    public static IEnumerable<BatchPlan> Neighbours(AuditText text)
    {
        IReadOnlyList<int> hostile = text.Options.HostileTokens;
        int draws = text.Options.IsQuick ? 2 : 8;
        int[][] alike = [[text.Tokens[0]], [text.Tokens[^1]], .. hostile.Select(token => new[] { token })];
        IEnumerable<IReadOnlyList<int>?> sets = Enumerable.Repeat<IReadOnlyList<int>?>(null, draws - 1).Concat(alike);
        if (hostile.Count > 0)
        {
            sets = sets.Append([.. hostile, .. text.Tokens]);
        }

        int rows = Rows(text, 8);
        BatchPlan first = Batch(text, rows) with { HoldsText = row => row == Math.Min(3, rows - 1), Seed = 200 };
        return sets.Select((tokens, i) => first with { NeighbourTokens = tokens, Seed = 201 + i, Baseline = first }).Prepend(first);
    }

    public static IEnumerable<BatchPlan> Padding(AuditText text)
    {
        int[] lengths = text.Options.IsQuick ? [1, 16, 130] : [1, 2, 3, 5, 8, 16, 31, 63, 64, 100, 127, 128, 129, 130];
        BatchPlan equal = Batch(text, Rows(text, 4)) with { HoldsText = row => row == Math.Min(1, Rows(text, 4) - 1) || row == 2, Seed = 300 };
        return lengths.Select(extra => equal.Prompt + extra).Append(1)
            .Where(length => length + equal.Steps.Sum() <= text.Shape.ContextLength)
            .Select(length => equal with { NeighbourPrompt = row => row == 0 ? length : Math.Max(1, length / 2), Seed = 300 + length, Baseline = equal })
            .Prepend(equal);
    }

    public static IEnumerable<BatchPlan> Chunks(AuditText text)
    {
        int[] sizes = text.Options.IsQuick ? [1, 7, 64] : [1, 2, 3, 7, 8, 16, 17, 31, 64, 100, 127, 128, 129];
        BatchPlan[] whole = [Batch(text, 1), Batch(text, Rows(text, 3))];
        return sizes.Where(size => size < text.PromptLength)
            .SelectMany(size => whole.Select(baseline =>
            {
                var steps = new List<int>();
                for (int done = size; done < text.PromptLength; done += size)
                {
                    steps.Add(Math.Min(size, text.PromptLength - done));
                }

                return baseline with { Prompt = size, Steps = [.. steps, .. Singles(text.NewTokens)], Seed = 400 + size, Baseline = baseline };
            }));
    }

    public static IEnumerable<BatchPlan> PromptLengths(AuditText text)
    {
        int[] lengths = !text.Shape.HasCache ? [1] : text.Options.IsQuick ? [1, 64, 129] : [1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 128, 129];
        return lengths.Where(length => length < text.PromptLength)
            .Select(length => new BatchPlan(1, length, Singles(text.Length - length)))
            .Append(new BatchPlan(1, text.Length, []));
    }

    public static IEnumerable<BatchPlan> Speculation(AuditText text)
    {
        IEnumerable<int> sizes = text.Options.IsQuick ? [2, 5] : Enumerable.Range(2, 8);
        BatchPlan[] single = [.. new[] { 1, 4 }.Select(rows => Batch(text, Rows(text, rows)) with { HoldsText = row => row % 2 == 0, Seed = 500 })];
        return sizes.Where(size => size <= text.NewTokens).SelectMany(size => single.Select(baseline =>
        {
            int whole = text.NewTokens / size;
            return baseline with
            {
                Steps = [.. Enumerable.Repeat(size, whole), .. Singles(text.NewTokens - (whole * size))],
                Seed = 500 + size,
                Baseline = baseline,
            };
        }));
    }

    public static IEnumerable<BatchPlan> Capacities(AuditText text)
    {
        int[] spare = text.Options.IsQuick ? [1, 100] : [1, 2, 3, 17, 64, 100, 128, 255, 256, 512, 1000];
        BatchPlan exact = Batch(text, Rows(text, 2)) with { Capacity = text.Length, HoldsText = row => row == Math.Min(1, text.MaxRows - 1), Seed = 600 };
        return spare.Select(more => exact with { Capacity = text.Length + more, Baseline = exact }).Prepend(exact);
    }

    public static IEnumerable<BatchPlan> FixedSteps(AuditText text) => FixedSteps(text, plan => plan with { FixedSteps = true, Capacity = text.Length + 40 });

    public static IEnumerable<BatchPlan> CudaGraphs(AuditText text) => FixedSteps(text, plan => plan with { FixedSteps = true, Capacity = text.Length + 40, CudaGraph = true });

    public static IEnumerable<BatchPlan> SingleNodes(AuditText text) => FixedSteps(text, plan => plan with { FixedSteps = true, Capacity = text.Length + 40, SingleNodes = true });

    public static IEnumerable<BatchPlan> Threads(AuditText text)
    {
        BatchPlan[] usual = [.. new[] { 1, 4 }.Select(rows => Batch(text, Rows(text, rows)) with { Seed = 750 })];
        return ThreadCounts.SelectMany(threads => usual.Select(baseline => baseline with { Threads = threads, Baseline = baseline }));
    }

    public static IEnumerable<BatchPlan> Concurrent(AuditText text) => Enumerable.Range(0, 4).Select(thread =>
    {
        BatchPlan alone = Batch(text, Rows(text, 1 + (3 * thread))) with { HoldsText = row => row == Math.Min(thread, text.MaxRows - 1), Seed = 900 + thread };
        return alone with { Baseline = alone };
    });

    public static IEnumerable<BatchPlan> Sessions(AuditText text) => Concurrent(text)
        .Select((plan, thread) => plan with { CudaGraph = thread % 2 == 1, FixedSteps = thread % 2 == 1 });

    public static IEnumerable<BatchPlan> Repeats(AuditText text)
    {
        BatchPlan first = Batch(text, Rows(text, 4)) with { HoldsText = row => row == Math.Min(2, Rows(text, 4) - 1), Seed = 800 };
        return Enumerable.Range(1, text.Options.IsQuick ? 2 : 9).Select(_ => first with { Baseline = first }).Prepend(first);
    }

    public static IEnumerable<BatchPlan> Fresh(AuditText text) => Enumerable.Range(0, text.Options.IsQuick ? 1 : 2).Select(_ => Alone(text));

    /// <summary>
    /// What everything is compared with: the prompt alone in its batch in one run, the rest token by token; of a model without a KV cache
    /// the whole text in one run.
    /// </summary>
    public static BatchPlan Alone(AuditText text) => Batch(text, 1);

    private static IEnumerable<BatchPlan> FixedSteps(AuditText text, Func<BatchPlan, BatchPlan> change) => new[] { 1, 2, 8, 32 }
        .Where(rows => rows <= text.MaxRows && (!text.Options.IsQuick || rows < 32))
        .Select(rows =>
        {
            BatchPlan usual = Batch(text, rows) with
            {
                HoldsText = row => row % 3 == 0,
                NeighbourPrompt = text.Shape.TakesUnequalRows ? row => Math.Max(1, text.PromptLength - (7 * row)) : null,
                Seed = 700 + rows,
            };
            return change(usual) with { Baseline = usual };
        });

    // The text as it is taken where nothing else is varied.
    private static BatchPlan Batch(AuditText text, int rows) =>
        text.Shape.HasCache ? new BatchPlan(rows, text.PromptLength, Singles(text.NewTokens)) : new BatchPlan(rows, text.Length, []);

    private static int[] Singles(int count) => [.. Enumerable.Repeat(1, count)];
}
