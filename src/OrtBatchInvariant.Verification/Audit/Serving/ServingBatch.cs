using System.Diagnostics;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>Requests that run together.</summary>
internal abstract class ServingBatch : IDisposable
{
    private readonly HashSet<(int Rows, int Tokens, int Mask)> _shapes = [];

    private protected ServingBatch(DecoderModel model, int capacity)
    {
        CheckContext(model.Folder, model.Shape.ContextLength, capacity);
        Model = model;
    }

    /// <summary>Requests that run now.</summary>
    public abstract int Running { get; }

    /// <summary>Requests that can join now.</summary>
    public abstract int Room { get; }

    /// <summary>The time that the model took so far.</summary>
    public TimeSpan ModelTime { get; private set; }

    /// <summary>Tokens that requests were given in that time.</summary>
    public long TimedTokens { get; private set; }

    /// <summary>Different shapes of runs so far.</summary>
    public int Shapes => _shapes.Count;

    private protected DecoderModel Model { get; }

    /// <summary>The batch in which requests that come in some way run.</summary>
    /// <exception cref="VerificationException">The model cannot serve requests that come this way.</exception>
    public static ServingBatch Create(DecoderModel model, ServingOptions options, int capacity) => options switch
    {
        { PadsToBuckets: true } when !model.Shape.SharesBuffer || !model.Shape.TakesUnequalRows => throw new VerificationException(
            $"{model.Folder.DecoderFile}: runs cannot be padded to a few shapes, since {(model.Shape.SharesBuffer ? DecoderShape.WhyEqualRows : model.Shape.WhyNoBuffer)}: leave --buckets out."),
        { PadsToBuckets: true } => new ContinuousBatch(model, options.MaxRows, capacity, new ShapeBuckets(options.MaxRows, capacity)),
        { Arrivals: Arrivals.Batches } => new StaticBatch(model, options.MaxRows, capacity),
        _ when model.Shape.SharesBuffer => new ContinuousBatch(model, options.MaxRows, capacity, buckets: null),
        _ => throw new VerificationException(
            $"{model.Folder.DecoderFile}: requests cannot join a batch that runs, since {model.Shape.WhyNoBuffer}: let them come in batches (--arrivals batches)."),
    };

    /// <summary>Refuses requests that are too long.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="contextLength">The most tokens that it takes.</param>
    /// <param name="capacity">The most tokens of a request.</param>
    public static void CheckContext(ModelFolder folder, int contextLength, int capacity)
    {
        if (capacity > contextLength)
        {
            throw new VerificationException($"{folder.DecoderFile}: requests of up to {capacity} tokens exceed the context of {contextLength} tokens: ask for fewer.");
        }
    }

    /// <summary>Takes requests in and gives each a token.</summary>
    /// <returns>Those that are done already.</returns>
    public abstract IReadOnlyList<Request> Join(IReadOnlyList<Request> requests);

    /// <summary>Gives each running request its next token.</summary>
    /// <returns>Those that are done.</returns>
    public abstract IReadOnlyList<Request> Step();

    /// <summary>Takes a running request out; null where none can be.</summary>
    public abstract Request? Preempt(Random random);

    public abstract void Dispose();

    /// <summary>Runs the model.</summary>
    /// <param name="shape">The shape of the run.</param>
    /// <param name="requests">Requests that it gives a token.</param>
    /// <param name="run">The run.</param>
    /// <param name="skipsFirst">Whether the first run of a shape is a warm-up, which does not count.</param>
    private protected BatchLogits Time((int Rows, int Tokens, int Mask) shape, int requests, Func<BatchLogits> run, bool skipsFirst = false)
    {
        bool isFirst = _shapes.Add(shape);
        long start = Stopwatch.GetTimestamp();
        BatchLogits logits = run();
        if (!isFirst || !skipsFirst)
        {
            ModelTime += Stopwatch.GetElapsedTime(start);
            TimedTokens += requests;
        }

        return logits;
    }
}
