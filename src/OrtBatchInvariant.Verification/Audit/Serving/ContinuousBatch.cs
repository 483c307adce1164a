using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>
/// Requests that join a running batch and leave it when they are done. Those that join are prefilled together in the rows behind the
/// running ones; when one leaves, the last row's keys and values are moved into its place, so that the rows in use stay together.
/// </summary>
/// <remarks>
/// With buckets, runs are padded: prompts with masked tokens, batches with rows of which nobody reads the logits. Steps of each size then
/// keep their tensors and what they are bound to, and their attention mask spans the whole KV buffer.
/// </remarks>
internal sealed class ContinuousBatch : ServingBatch
{
    private readonly KvStorage _storage;
    private readonly ShapeBuckets? _buckets;
    private readonly List<Request> _running = [];
    private readonly Dictionary<int, DecoderBatch> _padded = [];
    private DecoderBatch? _batch;

    public ContinuousBatch(DecoderModel model, int rows, int capacity, ShapeBuckets? buckets)
        : base(model, capacity)
    {
        _storage = new KvStorage(model, rows, capacity, model.PoisonsBuffers);
        _buckets = buckets;
    }

    public override int Running => _running.Count;

    public override int Room => _storage.Rows - _running.Count;

    public override IReadOnlyList<Request> Join(IReadOnlyList<Request> requests)
    {
        for (int joined = 0; joined < requests.Count;)
        {
            int waiting = requests.Count - joined;
            (int count, int rows) = _buckets?.Prefill(waiting, Room) ?? (waiting, waiting);
            Prefill([.. requests.Skip(joined).Take(count)], rows);
            joined += count;
        }

        return Leave(changed: true);
    }

    public override IReadOnlyList<Request> Step()
    {
        using (BatchLogits logits = _buckets is null ? Decode() : DecodePadded(_buckets.Rows(_running.Count)))
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
        foreach (DecoderBatch batch in _padded.Values)
        {
            batch.Dispose();
        }

        _storage.Dispose();
    }

    private void Prefill(Request[] requests, int rows)
    {
        int[][] texts = [.. requests.Select(request => request.Text), .. Enumerable.Repeat(new[] { Model.Folder.PadTokenId }, rows - requests.Length)];
        int longest = texts.Max(text => text.Length);
        int width = _buckets?.Tokens(longest) ?? longest;
        using var prefill = new DecoderBatch(Model, _storage, _running.Count, new int[rows], Model.PoisonsBuffers);
        using BatchLogits logits = Time((rows, width, width), requests.Length, () => prefill.AppendForLast(texts, width), skipsFirst: _buckets is not null);
        _running.AddRange(requests);
        for (int i = 0; i < requests.Length; i++)
        {
            requests[i].Take(Model.Shape, logits.Bytes(i, 0), _running.Count);
        }
    }

    private BatchLogits Decode()
    {
        _batch ??= new DecoderBatch(Model, _storage, 0, [.. _running.Select(request => request.Length)], Model.PoisonsBuffers);
        return Time(
            (_running.Count, 1, _batch.Lengths.Max() + 1), _running.Count, () => _batch.Append([.. _running.Select(request => new[] { request.Tokens[^1] })]));
    }

    private BatchLogits DecodePadded(int rows)
    {
        if (!_padded.TryGetValue(rows, out DecoderBatch? batch))
        {
            _padded[rows] = batch = new DecoderBatch(Model, _storage, 0, new int[rows], Model.PoisonsBuffers);
        }

        int padding = rows - _running.Count;
        int[] tokens = [.. _running.Select(request => request.Tokens[^1]), .. Enumerable.Repeat(Model.Folder.PadTokenId, padding)];
        int[] lengths = [.. _running.Select(request => request.Length), .. new int[padding]];
        return Time((rows, 1, _storage.Capacity), _running.Count, () => batch.Step(tokens, lengths), skipsFirst: true);
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
