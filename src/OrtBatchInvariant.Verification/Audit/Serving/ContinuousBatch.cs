using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>
/// Requests that join a running batch and leave it when they are done. Those that join are prefilled together in the rows behind the
/// running ones; when one leaves, the last row's keys and values are moved into its place, so that the rows in use stay together.
/// </summary>
internal sealed class ContinuousBatch : ServingBatch
{
    private readonly KvStorage _storage;
    private readonly List<Request> _running = [];
    private DecoderBatch? _batch;

    public ContinuousBatch(DecoderModel model, int rows, int capacity)
        : base(model, capacity) => _storage = new KvStorage(model, rows, capacity, model.PoisonsBuffers);

    public override int Running => _running.Count;

    public override int Room => _storage.Rows - _running.Count;

    public override IReadOnlyList<Request> Join(IReadOnlyList<Request> requests)
    {
        using (var prefill = new DecoderBatch(Model, _storage, _running.Count, new int[requests.Count], Model.PoisonsBuffers))
        {
            int[][] texts = [.. requests.Select(request => request.Text)];
            using BatchLogits logits = Time(() => prefill.Append(texts));
            _running.AddRange(requests);
            for (int i = 0; i < requests.Count; i++)
            {
                requests[i].Take(Model.Shape, logits.Bytes(i, texts[i].Length - 1), _running.Count);
            }
        }

        return Leave(changed: true);
    }

    public override IReadOnlyList<Request> Step()
    {
        _batch ??= new DecoderBatch(Model, _storage, 0, [.. _running.Select(request => request.Length)], Model.PoisonsBuffers);
        using (BatchLogits logits = Time(() => _batch.Append([.. _running.Select(request => new[] { request.Tokens[^1] })])))
        {
            Parallel.For(0, _running.Count, row => _running[row].Take(Model.Shape, logits.Bytes(row, 0), _running.Count));
        }

        return Leave(changed: false);
    }

    public override Request? Preempt(Random random)
    {
        int row = random.Next(_running.Count);
        Request request = _running[row];
        Remove(row);
        _batch?.Dispose();
        _batch = null;
        return request;
    }

    public override void Dispose()
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
}
