using System.Diagnostics;
using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>
/// Completes one prompt over and over, at temperature 0 and sampled from a fixed seed, among random neighbours that join and leave a
/// running batch and are put back into the queue at times, and counts different answers.
/// </summary>
/// <remarks>
/// The schedule is its own and needs a session alone, so that logits can be counted and tokens chosen from them by one rule for every
/// completion; the Engine of GenAI, which hands out tokens only, has an experiment of its own.
/// </remarks>
public static class ServingExperiment
{
    /// <summary>Runs the experiment.</summary>
    /// <param name="model">The model. For requests that join a running batch its KV cache must be one buffer for past and present.</param>
    /// <param name="options">What to run.</param>
    /// <param name="progress">Told the number of completions as it grows, and their number in all.</param>
    /// <param name="cancellation">Stops between two steps; the result then holds what there is, and says so.</param>
    /// <exception cref="VerificationException">The model cannot be run this way, or a logit is not a number.</exception>
    public static ServingResult Run(
        DecoderModel model, ServingOptions options, IProgress<(int Done, int Total)>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        options.Check();
        long start = Stopwatch.GetTimestamp();
        IDecoding[] decodings = [new Greedy(), new Sampling(options.Temperature, options.SamplingSeed)];
        var source = new RequestSource(model.Shape.VocabularySize, options, decodings, options.MaxRows);
        var tallies = decodings.ToDictionary(decoding => decoding, decoding => new DecodingTally(decoding.Name, options.Completions));
        var waiting = new Queue<Request>();
        var random = new Random(options.Seed + 1);
        int preemptions = 0;
        using var batch = ServingBatch.Create(model, options, source.Capacity);
        int requests = 0;
        int largest = 0;
        long generated = 0;

        // What everything is compared with: the prompt alone.
        foreach (IDecoding decoding in decodings)
        {
            Take(batch.Join([source.Probe(decoding)]));
            while (batch.Running > 0)
            {
                Take(batch.Step());
            }

            requests++;
        }

        while (tallies.Values.Any(tally => !tally.IsFull) && !cancellation.IsCancellationRequested)
        {
            foreach (Request request in source.Next(batch.Running))
            {
                waiting.Enqueue(request);
            }

            Request[] joining = [.. Enumerable.Range(0, Math.Min(batch.Room, waiting.Count)).Select(_ => waiting.Dequeue())];
            if (joining.Length > 0)
            {
                requests += joining.Count(request => request.Tokens.Count == 0);
                Take(batch.Join(joining));
            }

            largest = Math.Max(largest, batch.Running);
            if (batch.Running > 0)
            {
                Take(batch.Step());
            }

            if (options.Arrivals == Arrivals.Poisson && batch.Running > 0 && random.NextDouble() < options.Preemption && batch.Preempt(random) is { } preempted)
            {
                waiting.Enqueue(preempted);
                preemptions++;
            }

            progress?.Report((tallies.Values.Sum(tally => tally.Completions), options.Completions * decodings.Length));
        }

        return new ServingResult(
            SubjectReader.Read(model),
            [.. tallies.Values.Select(tally => tally.Result())],
            options.Prompt.Count,
            options.NewTokens,
            requests,
            preemptions,
            largest,
            tallies.Values.Sum(tally => (long)tally.Completions) * options.NewTokens * model.Shape.VocabularySize,
            generated,
            batch.TimedTokens,
            Math.Round(batch.ModelTime.TotalSeconds, 2),
            Math.Round(Stopwatch.GetElapsedTime(start).TotalSeconds, 1),
            batch.Shapes,
            options.PadsToBuckets,
            options.Arrivals.ToString().ToLowerInvariant(),
            options.Seed,
            tallies.Values.All(tally => tally.IsFull));

        void Take(IReadOnlyList<Request> done)
        {
            foreach (Request request in done)
            {
                generated += request.Tokens.Count;
                if (request.IsProbe)
                {
                    tallies[request.Decoding].Add(request);
                }
            }
        }
    }
}

/// <summary>Counts the different answers of one way of choosing tokens. The first is what the others are compared with.</summary>
internal sealed class DecodingTally(string name, int completions)
{
    private readonly Dictionary<string, int> _logits = [];
    private readonly Dictionary<string, int> _texts = [];
    private readonly List<int> _logitsOfCompletions = [];
    private readonly List<int> _textOfLogits = [];
    private readonly List<IReadOnlyList<int>> _textTokens = [];
    private readonly SortedDictionary<int, (int Count, HashSet<string> Logits, HashSet<string> Texts)> _sizes = [];
    private Request? _first;
    private int? _firstLogits;
    private int? _firstToken;

    public int Completions { get; private set; }

    public bool IsFull => Completions >= completions;

    public void Add(Request request)
    {
        if (IsFull)
        {
            return;
        }

        _first ??= request;
        Completions++;
        string logits = string.Join(' ', request.Digests);
        string text = string.Join(' ', request.Tokens);
        if (_texts.TryAdd(text, _texts.Count))
        {
            _textTokens.Add([.. request.Tokens]);
        }

        if (_logits.TryAdd(logits, _logits.Count))
        {
            _textOfLogits.Add(_texts[text]);
        }

        _logitsOfCompletions.Add(_logits[logits]);
        (int count, HashSet<string> sizeLogits, HashSet<string> sizeTexts) = _sizes.GetValueOrDefault(request.MeanBatchSize, (0, [], []));
        sizeLogits.Add(logits);
        sizeTexts.Add(text);
        _sizes[request.MeanBatchSize] = (count + 1, sizeLogits, sizeTexts);
        _firstLogits = Earlier(_firstLogits, FirstDifference(_first.Digests, request.Digests));
        _firstToken = Earlier(_firstToken, FirstDifference(_first.Tokens, request.Tokens));
    }

    private bool SawLogits => _first?.Digests.Count is not 0;

    // Where no logits were seen, none were counted.
    public DecodingResult Result() => new(
        name, Completions, SawLogits ? _logits.Count : null, _texts.Count, _firstLogits, _firstToken,
        [.. _sizes.Select(size => new BatchSizeCount(size.Key, size.Value.Count, size.Value.Logits.Count, size.Value.Texts.Count))])
    {
        Answers = SawLogits ? new DistinctAnswers(_logitsOfCompletions, _textOfLogits, _textTokens) : null,
    };

    private static int? FirstDifference<T>(IReadOnlyList<T> left, IReadOnlyList<T> right)
        where T : IEquatable<T>
    {
        int same = left.Zip(right).TakeWhile(pair => pair.First.Equals(pair.Second)).Count();
        return same < left.Count ? same : null;
    }

    private static int? Earlier(int? left, int? right) => left is null ? right : right is null ? left : Math.Min(left.Value, right.Value);
}
