using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit.Serving;

/// <summary>
/// Requests that start together and end together. Models whose KV cache has no row of its own for each request can be served in no other
/// way.
/// </summary>
internal sealed class StaticBatch : ServingBatch
{
    private readonly int _rows;
    private readonly int _capacity;
    private IReadOnlyList<Request> _running = [];
    private DecoderBatch? _batch;

    public StaticBatch(DecoderModel model, int rows, int capacity)
        : base(model, capacity) => (_rows, _capacity) = (rows, capacity);

    public override int Running => _running.Count;

    public override int Room => _running.Count == 0 ? _rows : 0;

    public override IReadOnlyList<Request> Join(IReadOnlyList<Request> requests)
    {
        int[][] texts = [.. requests.Select(request => request.Text)];
        _running = requests;
        _batch = new DecoderBatch(Model, requests.Count, _capacity, Model.PoisonsBuffers);
        int longest = texts.Max(text => text.Length);
        using (BatchLogits logits = Time((requests.Count, longest, longest), requests.Count, () => _batch.AppendForLast(texts)))
        {
            for (int row = 0; row < requests.Count; row++)
            {
                requests[row].Take(Model.Shape, logits.Bytes(row, 0), requests.Count);
            }
        }

        return LeaveIfDone();
    }

    public override IReadOnlyList<Request> Step()
    {
        int longest = _batch!.Lengths.Max() + 1;
        using (BatchLogits logits = Time(
            (_running.Count, Model.Shape.HasCache ? 1 : longest, longest), _running.Count, () => _batch.Append([.. _running.Select(request => new[] { request.Tokens[^1] })])))
        {
            Parallel.For(0, _running.Count, row => _running[row].Take(Model.Shape, logits.Bytes(row, 0), _running.Count));
        }

        return LeaveIfDone();
    }

    public override Request? Preempt(Random random) => null;

    public override void Dispose() => _batch?.Dispose();

    // Requests of a batch ask for equally many tokens.
    private IReadOnlyList<Request> LeaveIfDone()
    {
        if (!_running.All(request => request.IsDone))
        {
            return [];
        }

        IReadOnlyList<Request> done = _running;
        _running = [];
        _batch?.Dispose();
        _batch = null;
        return done;
    }
}
