using System.Diagnostics;
using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>
/// Requests that join a running batch and leave it when they are done. Those that join are prefilled together in the rows behind the
/// running ones; when one leaves, the last row's keys and values are moved into its place, so that the rows in use stay together.
/// </summary>
internal sealed class ContinuousBatch : IDisposable
{
    private readonly DecoderModel _model;
    private readonly KvStorage _storage;
    private readonly List<Request> _running = [];
    private DecoderBatch? _batch;

    public ContinuousBatch(DecoderModel model, int rows, int capacity)
    {
        if (capacity > model.Shape.ContextLength)
        {
            throw new VerificationException(
                $"{model.Folder.DecoderFile}: requests of up to {capacity} tokens exceed the context of {model.Shape.ContextLength} tokens: ask for fewer.");
        }

        _model = model;
        _storage = new KvStorage(model, rows, capacity, model.PoisonsBuffers);
    }

    public int Running => _running.Count;

    /// <summary>Requests that can join now.</summary>
    public int Room => _storage.Rows - _running.Count;

    /// <summary>The time that the model took so far.</summary>
    public TimeSpan ModelTime { get; private set; }

    /// <summary>Takes requests in and gives each a token.</summary>
    /// <returns>Those that are done already.</returns>
    public IReadOnlyList<Request> Join(IReadOnlyList<Request> requests)
    {
        using (var prefill = new DecoderBatch(_model, _storage, _running.Count, new int[requests.Count], _model.PoisonsBuffers))
        {
            int[][] texts = [.. requests.Select(request => request.Text)];
            using BatchLogits logits = Time(() => prefill.Append(texts));
            _running.AddRange(requests);
            for (int i = 0; i < requests.Count; i++)
            {
                requests[i].Take(_model.Shape, logits.Bytes(i, texts[i].Length - 1), _running.Count);
            }
        }

        return Leave(changed: true);
    }

    /// <summary>Gives each running request its next token.</summary>
    /// <returns>Those that are done.</returns>
    public IReadOnlyList<Request> Step()
    {
        _batch ??= new DecoderBatch(_model, _storage, 0, [.. _running.Select(request => request.Length)], _model.PoisonsBuffers);
        using (BatchLogits logits = Time(() => _batch.Append([.. _running.Select(request => new[] { request.Tokens[^1] })])))
        {
            Parallel.For(0, _running.Count, row => _running[row].Take(_model.Shape, logits.Bytes(row, 0), _running.Count));
        }

        return Leave(changed: false);
    }

    /// <summary>Takes a running request out.</summary>
    public Request Preempt(Random random)
    {
        int row = random.Next(_running.Count);
        Request request = _running[row];
        Remove(row);
        _batch?.Dispose();
        _batch = null;
        return request;
    }

    public void Dispose()
    {
        _batch?.Dispose();
        _storage.Dispose();
    }

    private List<Request> Leave(bool changed)
    {
        var done = new List<Request>();
        for (int row = _running.Count - 1; row >= 0; row--)
        {
            if (_running[row].IsDone)
            {
                done.Add(_running[row]);
                Remove(row);
            }
        }

        if (changed || done.Count > 0)
        {
            _batch?.Dispose();
            _batch = null;
        }

        return done;
    }

    private void Remove(int row)
    {
        int last = _running.Count - 1;
        if (row != last)
        {
            _storage.Copy(last, row);
            _running[row] = _running[last];
        }

        _running.RemoveAt(last);
    }

    private BatchLogits Time(Func<BatchLogits> run)
    {
        long start = Stopwatch.GetTimestamp();
        BatchLogits logits = run();
        ModelTime += Stopwatch.GetElapsedTime(start);
        return logits;
    }
}
