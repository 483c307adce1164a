namespace OrtBatchInvariant.Verification.Device;

/// <summary>
/// Runs one text in every way that must not matter and compares the bytes of the logits of each of its positions with those of the
/// text alone in its batch.
/// </summary>
public sealed class DeviceInvariance
{
    private const int Threads = 4;

    private readonly DecoderModel _model;
    private readonly DeviceInvarianceOptions _options;
    private readonly int[] _text;
    private readonly LogitsReference _reference;

    private DeviceInvariance(DecoderModel model, DeviceInvarianceOptions options)
    {
        _model = model;
        _options = options;
        var random = new Random(options.Seed);
        _text = [.. Enumerable.Range(0, options.PromptTokens + options.NewTokens).Select(_ => Draw(random, null))];
        _reference = LogitsReference.Record(model, _text, options.PromptTokens);
        if (!_reference.SeesOneBit())
        {
            throw new VerificationException("A flipped bit in the logits went unseen: the comparison is broken.");
        }
    }

    private int Prompt => _options.PromptTokens;

    private int[] Singles => [.. Enumerable.Repeat(1, _options.NewTokens)];

    /// <summary>Runs every axis.</summary>
    /// <param name="model">The model.</param>
    /// <param name="graphModel">The same model opened with CUDA graphs, or null to leave that axis out.</param>
    /// <param name="options">What to run.</param>
    /// <param name="progress">Told after each axis.</param>
    /// <exception cref="VerificationException">The model cannot be run.</exception>
    public static IReadOnlyList<DeviceAxisResult> Run(
        DecoderModel model, DecoderModel? graphModel, DeviceInvarianceOptions options, Action<DeviceAxisResult>? progress = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        var experiment = new DeviceInvariance(model, options);
        var results = new List<DeviceAxisResult>();
        foreach (Func<DeviceAxisResult> axis in experiment.Axes(graphModel))
        {
            results.Add(axis());
            progress?.Invoke(results[^1]);
        }

        return results;
    }

    private IEnumerable<Func<DeviceAxisResult>> Axes(DecoderModel? graphModel)
    {
        yield return () => Axis("batch size", $"1 to {_options.MaxRows} rows, the text in about half of them", BatchSizes());
        yield return () => Axis("row position", "each of 8 rows", RowPositions());
        yield return () => Axis("neighbours", _options.HostileTokens.Count > 0 ? "random, all alike, NaN and infinite" : "random, all alike", Neighbours());
        yield return () => Axis("right padding", "neighbours longer by up to 130 tokens, or of 1 token", Padding());
        yield return () => Axis("chunked prefill", "chunks of 1 to 129 tokens, 1 row and 3", Chunks());
        yield return () => Axis("prefill against decode", "prompts of 1 token to all, the rest token by token", PromptLengths());
        yield return () => Axis("one token against k+1", "k+1 of 2 to 9 at once, 1 row and 4", Speculation());
        yield return () => Axis("KV buffer length", "0 to 1000 tokens to spare", Capacities());
        yield return () => Axis("fixed shapes", "attention mask over the whole KV buffer", FixedSteps(FixedRows()));
        if (graphModel is not null)
        {
            yield return () => Axis("CUDA graph", "decode steps replayed from a graph", FixedSteps(FixedRows()), graphModel);
        }

        yield return () => Axis("repeated runs", "the same batch over and over", Repeats());
        yield return () => Concurrent("several threads", $"{Threads} batches at once in one session", _ => _model);
        if (graphModel is not null && _model.Options.Kernels == Hosting.KernelSet.BatchInvariant)
        {
            yield return () => Sessions(graphModel);
        }
    }

    private IEnumerable<BatchPlan> BatchSizes()
    {
        int[] sizes = _options.IsQuick ? [1, 2, 3, 5, 8, 16, 17, 33, 64] : [.. Enumerable.Range(1, 64)];
        return sizes.Where(rows => rows <= _options.MaxRows).Select(rows =>
        {
            var random = new Random(_options.Seed + rows);
            bool[] holds = [.. Enumerable.Range(0, rows).Select(_ => random.Next(2) == 0)];
            holds[random.Next(rows)] = true;
            return new BatchPlan(rows, Prompt, Singles) { HoldsText = row => holds[row], Seed = rows };
        });
    }

    private IEnumerable<BatchPlan> RowPositions() => Enumerable.Range(0, 8)
        .Where(row => !_options.IsQuick || row is 0 or 3 or 7)
        .Select(position => new BatchPlan(8, Prompt, Singles) { HoldsText = row => row == position, Seed = 100 });

    private IEnumerable<BatchPlan> Neighbours()
    {
        int draws = _options.IsQuick ? 2 : 8;
        int[][] alike = [[_text[0]], [_text[^1]], .. _options.HostileTokens.Select(token => new[] { token })];
        IEnumerable<IReadOnlyList<int>?> sets = Enumerable.Repeat<IReadOnlyList<int>?>(null, draws).Concat(alike);
        if (_options.HostileTokens.Count > 0)
        {
            sets = sets.Append([.. _options.HostileTokens, .. _text]);
        }

        return sets.Select((tokens, i) => new BatchPlan(8, Prompt, Singles) { HoldsText = row => row == 3, NeighbourTokens = tokens, Seed = 200 + i });
    }

    private IEnumerable<BatchPlan> Padding()
    {
        int[] lengths = _options.IsQuick ? [0, 1, 16, 130] : [0, 1, 2, 3, 5, 8, 16, 31, 63, 64, 100, 127, 128, 129, 130];
        return lengths.Select(extra => Prompt + extra).Append(1)
            .Where(length => length + _options.NewTokens <= _model.Shape.ContextLength)
            .Select(length => new BatchPlan(4, Prompt, Singles)
            {
                HoldsText = row => row is 1 or 2,
                NeighbourPrompt = row => row == 0 ? length : Math.Max(1, length / 2),
                Seed = 300 + length,
            });
    }

    private IEnumerable<BatchPlan> Chunks()
    {
        int[] sizes = _options.IsQuick ? [1, 7, 64] : [1, 2, 3, 7, 8, 16, 17, 31, 64, 100, 127, 128, 129];
        return sizes.Where(size => size < Prompt)
            .SelectMany(size => new[] { 1, 3 }.Select(rows =>
            {
                var steps = new List<int>();
                for (int done = size; done < Prompt; done += size)
                {
                    steps.Add(Math.Min(size, Prompt - done));
                }

                return new BatchPlan(rows, size, [.. steps, .. Singles]) { Seed = 400 + size };
            }));
    }

    private IEnumerable<BatchPlan> PromptLengths()
    {
        int[] lengths = _options.IsQuick ? [1, 64, 129] : [1, 2, 3, 15, 16, 17, 63, 64, 65, 127, 128, 129];
        return lengths.Where(length => length < Prompt)
            .Select(length => new BatchPlan(1, length, [.. Enumerable.Repeat(1, _text.Length - length)]));
    }

    private IEnumerable<BatchPlan> Speculation()
    {
        IEnumerable<int> sizes = _options.IsQuick ? [2, 5] : Enumerable.Range(2, 8);
        return sizes.SelectMany(size => new[] { 1, 4 }.Select(rows =>
        {
            int whole = _options.NewTokens / size;
            return new BatchPlan(rows, Prompt, [.. Enumerable.Repeat(size, whole), .. Enumerable.Repeat(1, _options.NewTokens - (whole * size))])
            {
                HoldsText = row => row % 2 == 0,
                Seed = 500 + size,
            };
        }));
    }

    private IEnumerable<BatchPlan> Capacities()
    {
        int[] spare = _options.IsQuick ? [0, 1, 100] : [0, 1, 2, 3, 17, 64, 100, 128, 255, 256, 512, 1000];
        return spare.Select(more => new BatchPlan(2, Prompt, Singles) { Capacity = _text.Length + more, HoldsText = row => row == 1, Seed = 600 });
    }

    private int[] FixedRows() => [.. new[] { 1, 2, 8, 32 }.Where(rows => rows <= _options.MaxRows && (!_options.IsQuick || rows < 32))];

    private IEnumerable<BatchPlan> FixedSteps(int[] rows) => rows.Select(count => new BatchPlan(count, Prompt, Singles)
    {
        FixedSteps = true,
        Capacity = _text.Length + 40,
        HoldsText = row => row % 3 == 0,
        NeighbourPrompt = row => Math.Max(1, Prompt - (7 * row)),
        Seed = 700 + count,
    });

    private IEnumerable<BatchPlan> Repeats() => Enumerable.Repeat(
        new BatchPlan(4, Prompt, Singles) { HoldsText = row => row == 2, Seed = 800 }, _options.IsQuick ? 3 : 10);

    private DeviceAxisResult Axis(string name, string values, IEnumerable<BatchPlan> plans, DecoderModel? model = null)
    {
        LogitsReference counter = _reference.Restart();
        int runs = 0;
        try
        {
            foreach (BatchPlan plan in plans)
            {
                Run(plan, model ?? _model, counter);
                runs++;
            }
        }
        catch (VerificationException exception) when (_model.Options.Kernels == Hosting.KernelSet.Stock)
        {
            // Stock kernels refuse some of this: GroupQueryAttention takes several tokens after a past in batches of one row only.
            return new DeviceAxisResult(name, values, runs, counter.Compared, counter.Different, exception.Message);
        }

        return new DeviceAxisResult(name, values, runs, counter.Compared, counter.Different, null);
    }

    // Copies must neither disturb the capture of a graph nor be disturbed by it.
    private DeviceAxisResult Sessions(DecoderModel graphModel)
    {
        using DecoderModel second = DecoderModel.Open(_model.Folder, _model.Options);
        using DecoderModel secondWithGraphs = DecoderModel.Open(_model.Folder, graphModel.Options);
        DecoderModel[] models = [_model, graphModel, second, secondWithGraphs];
        var copies = new RepeatedCopies(_model.Memory);
        DeviceAxisResult result;
        try
        {
            result = Concurrent("several sessions", "4 sessions at once, two of them with CUDA graphs, beside copies to the device and back", thread => models[thread]);
        }
        finally
        {
            copies.Stop();
        }

        return copies.Count > 0 ? result : throw new VerificationException("No tensor was copied beside the sessions, so nothing was tested.");
    }

    private DeviceAxisResult Concurrent(string name, string values, Func<int, DecoderModel> modelOf)
    {
        LogitsReference[] counters = [.. Enumerable.Range(0, Threads).Select(_ => _reference.Restart())];
        int runs = _options.IsQuick ? 2 : 6;
        Exception?[] errors = new Exception?[Threads];
        Thread[] threads =
        [
            .. Enumerable.Range(0, Threads).Select(thread => new Thread(() =>
            {
                try
                {
                    for (int run = 0; run < runs; run++)
                    {
                        DecoderModel model = modelOf(thread);
                        var plan = new BatchPlan(1 + (3 * thread), Prompt, Singles)
                        {
                            HoldsText = row => row == thread, Seed = 900 + thread, FixedSteps = model.Options.EnableCudaGraph,
                        };
                        Run(plan, model, counters[thread]);
                    }
                }
                catch (Exception exception)
                {
                    errors[thread] = exception;
                }
            })),
        ];
        foreach (Thread thread in threads)
        {
            thread.Start();
        }

        foreach (Thread thread in threads)
        {
            thread.Join();
        }

        if (errors.OfType<Exception>().FirstOrDefault() is { } error)
        {
            throw new VerificationException($"A run beside others failed ({name}): {DecoderModel.OneLine(error)}", error);
        }

        return new DeviceAxisResult(
            name, values, runs * Threads, counters.Sum(counter => counter.Compared), counters.Sum(counter => counter.Different), null);
    }

    private void Run(BatchPlan plan, DecoderModel model, LogitsReference counter)
    {
        var random = new Random(_options.Seed ^ (plan.Seed * 7919));
        int[] prompts = [.. Enumerable.Range(0, plan.Rows).Select(row => plan.HoldsText(row) ? plan.Prompt : plan.NeighbourPrompt?.Invoke(row) ?? plan.Prompt)];
        int capacity = Math.Max(plan.Capacity ?? 0, prompts.Max() + plan.Steps.Sum());
        using var batch = new DecoderBatch(model, plan.Rows, capacity, LogitsReference.PoisonsAt(model));
        int[][] tokens = [.. prompts.Select((length, row) => plan.HoldsText(row) ? _text[..plan.Prompt] : Neighbour(length))];
        using (BatchLogits logits = batch.Append(tokens))
        {
            Compare(logits, 0, plan.Prompt);
        }

        int position = plan.Prompt;
        foreach (int step in plan.Steps)
        {
            tokens = [.. Enumerable.Range(0, plan.Rows).Select(row => plan.HoldsText(row) ? _text[position..(position + step)] : Neighbour(step))];
            using BatchLogits logits = plan.FixedSteps && step == 1 ? batch.Step([.. tokens.Select(row => row[0])]) : batch.Append(tokens);
            Compare(logits, position, step);
            position += step;
        }

        int[] Neighbour(int length) => [.. Enumerable.Range(0, length).Select(_ => Draw(random, plan.NeighbourTokens))];

        void Compare(BatchLogits logits, int first, int count)
        {
            for (int row = 0; row < plan.Rows; row++)
            {
                for (int i = 0; plan.HoldsText(row) && i < count; i++)
                {
                    counter.Compare(first + i, logits.Bytes(row, i));
                }
            }
        }
    }

    private int Draw(Random random, IReadOnlyList<int>? from)
    {
        if (from is not null)
        {
            return from[random.Next(from.Count)];
        }

        int token;
        do
        {
            token = random.Next(_model.Shape.VocabularySize);
        }
        while (_options.HostileTokens.Contains(token));
        return token;
    }
}
