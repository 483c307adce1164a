namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>Draws the requests that come: the prompt, chosen from in each way by turns, and about as many neighbours of any length.</summary>
internal sealed class RequestSource
{
    // Arrivals per step over departures of a full batch: the batch is seldom empty and often full, so it takes every size.
    private const double Load = 0.9;

    private readonly int _vocabularySize;
    private readonly ServingOptions _options;
    private readonly IReadOnlyList<IDecoding> _decodings;
    private readonly Random _random;
    private readonly double _perStep;

    /// <param name="vocabularySize">Tokens of the model.</param>
    /// <param name="options">What to draw.</param>
    /// <param name="decodings">The ways of choosing tokens.</param>
    /// <param name="rowsPerStep">The most requests that a step gives a token.</param>
    public RequestSource(int vocabularySize, ServingOptions options, IReadOnlyList<IDecoding> decodings, int rowsPerStep)
    {
        _vocabularySize = vocabularySize;
        _options = options;
        _decodings = decodings;
        _random = new Random(options.Seed);
        _perStep = Load * rowsPerStep / options.NewTokens;
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

        int[] prompt = new int[_random.Next(1, (2 * _options.Prompt.Count) + 1)];
        for (int i = 0; i < prompt.Length; i++)
        {
            prompt[i] = _random.Next(_vocabularySize);
        }

        int newTokens = _options.Arrivals == Arrivals.Poisson ? _random.Next(1, (2 * _options.NewTokens) + 1) : _options.NewTokens;
        return new Request(prompt, newTokens, decoding, isProbe: false);
    }

    // Large ones more often, as under load.
    private int BatchSize() => 1 + Math.Max(_random.Next(_options.MaxRows), _random.Next(_options.MaxRows));

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
