using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>Draws the requests that come: the prompt, chosen from in each way by turns, and about as many neighbours of any length.</summary>
internal sealed class RequestSource
{
    // Arrivals per step over departures of a full batch: the batch is seldom empty and often full, so it takes every size.
    private const double Load = 0.9;

    // Batches come in these sizes, and prompts in multiples of so many tokens, as servers sort them into buckets: some kernels are looked
    // for anew for each shape, which would take most of the time otherwise.
    private const int Bucket = 32;
    private static readonly int[] s_batchSizes = [1, 2, 4, 8, 16, 32, 48, 64];

    private readonly DecoderModel _model;
    private readonly ServingOptions _options;
    private readonly IReadOnlyList<IDecoding> _decodings;
    private readonly Random _random;
    private readonly double _perStep;

    public RequestSource(DecoderModel model, ServingOptions options, IReadOnlyList<IDecoding> decodings)
    {
        _model = model;
        _options = options;
        _decodings = decodings;
        _random = new Random(options.Seed);
        _perStep = Load * options.MaxRows / options.NewTokens;
    }

    /// <summary>Tokens that a KV buffer must hold.</summary>
    public int Capacity => (2 * _options.Prompt.Count) + (2 * _options.NewTokens);

    public Request Probe(IDecoding decoding) => new([.. _options.Prompt], _options.NewTokens, decoding, isProbe: true);

    /// <summary>The requests that come before a step.</summary>
    /// <param name="running">Requests that run.</param>
    public IEnumerable<Request> Next(int running)
    {
        int count = _options.Arrivals == Arrivals.Poisson ? Poisson(_perStep)
            : running == 0 ? BatchSize()
            : 0;
        for (int i = 0; i < count; i++)
        {
            yield return Draw();
        }
    }

    private Request Draw()
    {
        IDecoding decoding = _decodings[_random.Next(_decodings.Count)];
        if (_random.Next(2) == 0)
        {
            return Probe(decoding);
        }

        int[] prompt = new int[PromptLength()];
        for (int i = 0; i < prompt.Length; i++)
        {
            prompt[i] = _random.Next(_model.Shape.VocabularySize);
        }

        int newTokens = _options.Arrivals == Arrivals.Poisson ? _random.Next(1, (2 * _options.NewTokens) + 1) : _options.NewTokens;
        return new Request(prompt, newTokens, decoding, isProbe: false);
    }

    // Large ones more often, as under load.
    private int BatchSize()
    {
        int[] sizes = [.. s_batchSizes.Where(size => size < _options.MaxRows), _options.MaxRows];
        return sizes[Math.Max(_random.Next(sizes.Length), _random.Next(sizes.Length))];
    }

    private int PromptLength()
    {
        int longest = 2 * _options.Prompt.Count;
        return _options.Arrivals == Arrivals.Poisson || longest < Bucket ? _random.Next(1, longest + 1) : Bucket * _random.Next(1, (longest / Bucket) + 1);
    }

    // Knuth's method; the mean is small.
    private int Poisson(double mean)
    {
        double limit = Math.Exp(-mean);
        int count = 0;
        for (double product = _random.NextDouble(); product > limit; product *= _random.NextDouble())
        {
            count++;
        }

        return count;
    }
}
