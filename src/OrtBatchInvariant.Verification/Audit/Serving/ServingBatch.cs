using System.Diagnostics;
using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>Requests that run together.</summary>
internal abstract class ServingBatch : IDisposable
{
    private protected ServingBatch(DecoderModel model, int capacity)
    {
        if (capacity > model.Shape.ContextLength)
        {
            throw new VerificationException(
                $"{model.Folder.DecoderFile}: requests of up to {capacity} tokens exceed the context of {model.Shape.ContextLength} tokens: ask for fewer.");
        }

        Model = model;
    }

    /// <summary>Requests that run now.</summary>
    public abstract int Running { get; }

    /// <summary>Requests that can join now.</summary>
    public abstract int Room { get; }

    /// <summary>The time that the model took so far.</summary>
    public TimeSpan ModelTime { get; private set; }

    private protected DecoderModel Model { get; }

    /// <summary>The batch in which requests that come in some way run.</summary>
    /// <exception cref="VerificationException">The model cannot serve requests that come this way.</exception>
    public static ServingBatch Create(DecoderModel model, Arrivals arrivals, int rows, int capacity) => (arrivals, model.Shape.SharesBuffer) switch
    {
        (Arrivals.Batches, _) => new StaticBatch(model, rows, capacity),
        (_, true) => new ContinuousBatch(model, rows, capacity),
        _ => throw new VerificationException(
            $"{model.Folder.DecoderFile}: requests cannot join a batch that runs, since {model.Shape.WhyNoBuffer}: let them come in batches (--arrivals batches)."),
    };

    /// <summary>Takes requests in and gives each a token.</summary>
    /// <returns>Those that are done already.</returns>
    public abstract IReadOnlyList<Request> Join(IReadOnlyList<Request> requests);

    /// <summary>Gives each running request its next token.</summary>
    /// <returns>Those that are done.</returns>
    public abstract IReadOnlyList<Request> Step();

    /// <summary>Takes a running request out; null where none can be.</summary>
    public abstract Request? Preempt(Random random);

    public abstract void Dispose();

    private protected BatchLogits Time(Func<BatchLogits> run)
    {
        long start = Stopwatch.GetTimestamp();
        BatchLogits logits = run();
        ModelTime += Stopwatch.GetElapsedTime(start);
        return logits;
    }
}
