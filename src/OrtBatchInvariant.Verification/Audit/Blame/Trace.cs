using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit.Blame;

/// <summary>What values inside a graph were for each position of the text, in one row of a batch.</summary>
internal sealed class Trace
{
    private readonly Dictionary<string, byte[]?[]> _values = [];
    private readonly Dictionary<int, TracedRun> _runs = [];
    private readonly byte[]?[] _logits;

    private Trace(int positions) => _logits = new byte[]?[positions];

    /// <summary>The runs whose whole values were kept, by number.</summary>
    public IReadOnlyDictionary<int, TracedRun> Runs => _runs;

    /// <summary>Runs a batch and keeps what one row's values were.</summary>
    /// <param name="model">A model with <see cref="DecoderModelOptions.Exposed"/> values.</param>
    /// <param name="text">The text.</param>
    /// <param name="plan">The batch.</param>
    /// <param name="row">A row that holds the text.</param>
    /// <param name="kept">The runs whose whole values are kept.</param>
    /// <param name="layouts">Where a token's numbers lie in each value.</param>
    /// <param name="observe">Told the logits of each row and position; whatever is kept is kept by it.</param>
    public static Trace Run(
        DecoderModel model,
        AuditText text,
        BatchPlan plan,
        int row,
        IReadOnlySet<int> kept,
        IReadOnlyDictionary<string, ValueLayout> layouts,
        LogitsObserver? observe = null)
    {
        var trace = new Trace(text.Length);
        IReadOnlyDictionary<string, HostTensor>? seen = null;
        using var batch = new DecoderBatch(model, plan.Rows, text.Capacity(plan), model.PoisonsBuffers)
        {
            Observer = model.Options.Exposed.Count > 0 ? values => seen = values : null,
        };
        int position = 0;
        foreach ((int run, int count, int[][] tokens) in plan.Runs.Zip(text.Runs(plan)).Select((item, run) => (run, item.First, item.Second)))
        {
            IReadOnlyList<HostTensor> cacheBefore = kept.Contains(run) ? batch.CacheSnapshot() : [];
            using (BatchLogits logits = plan.FixedSteps && count == 1 ? batch.Step([.. tokens.Select(one => one[0])]) : batch.Append(tokens))
            {
                for (int i = 0; i < count; i++)
                {
                    trace._logits[position + i] = logits.Bytes(row, i).ToArray();
                    observe?.Invoke(run, position + i, logits, i);
                }
            }

            // Without a KV cache a run has the whole text so far.
            int first = model.Shape.HasCache ? position : 0;
            List<(int Position, TokenPlace Place)> places =
            [
                .. Enumerable.Range(first, position + count - first)
                    .Select(at => (at, new TokenPlace(row, plan.Rows, at - first, batch.Width, [.. batch.Slots[row].Take(at + 1)]))),
            ];
            if (seen is not null)
            {
                trace.Keep(seen, places, layouts);
                trace.KeepCache(model, batch, places);
                if (kept.Contains(run))
                {
                    trace._runs[run] = new TracedRun(seen, cacheBefore, places);
                }
            }

            position += count;
        }

        return trace;
    }

    /// <summary>A value's numbers for a position; null if there are none.</summary>
    public byte[]? At(string value, int position) => _values.TryGetValue(value, out byte[]?[]? positions) ? positions[position] : null;

    /// <summary>Whether the logits of a position are some bytes.</summary>
    public bool HasLogits(int position, ReadOnlySpan<byte> logits) => logits.SequenceEqual(_logits[position]);

    public bool HasSameLogits(Trace other) =>
        _logits.Zip(other._logits).All(pair => pair.First is null || pair.Second is null || pair.First.AsSpan().SequenceEqual(pair.Second));

    private void Keep(
        IReadOnlyDictionary<string, HostTensor> seen, IReadOnlyList<(int Position, TokenPlace Place)> places, IReadOnlyDictionary<string, ValueLayout> layouts)
    {
        foreach ((string name, HostTensor tensor) in seen)
        {
            if (layouts.TryGetValue(name, out ValueLayout? layout) && layout.IsPerToken && FloatBits.IsFloat(tensor.Type))
            {
                Keep(name, tensor, layout, places);
            }
        }
    }

    private void KeepCache(DecoderModel model, DecoderBatch batch, IReadOnlyList<(int Position, TokenPlace Place)> places)
    {
        foreach ((CacheValue cache, HostTensor tensor) in model.Shape.Cache.Zip(batch.CacheSnapshot()))
        {
            Keep(cache.Present, tensor, ValueLayout.Cache, places);
        }
    }

    private void Keep(string name, HostTensor tensor, ValueLayout layout, IReadOnlyList<(int Position, TokenPlace Place)> places)
    {
        if (!_values.TryGetValue(name, out byte[]?[]? positions))
        {
            _values[name] = positions = new byte[]?[_logits.Length];
        }

        foreach ((int position, TokenPlace place) in places)
        {
            positions[position] = layout.Read(tensor, place);
        }
    }
}

/// <summary>One run of a batch.</summary>
/// <param name="Values">What went in, and the whole values inside the graph.</param>
/// <param name="CacheBefore">The KV caches before it, in the order of the shape.</param>
/// <param name="Places">The position in the text of each of its tokens.</param>
internal sealed record TracedRun(
    IReadOnlyDictionary<string, HostTensor> Values, IReadOnlyList<HostTensor> CacheBefore, IReadOnlyList<(int Position, TokenPlace Place)> Places);

/// <summary>Told the logits of a run.</summary>
/// <param name="run">The run, counted from 0.</param>
/// <param name="position">The position in the text.</param>
/// <param name="logits">The logits of the run.</param>
/// <param name="token">The token in the run.</param>
internal delegate void LogitsObserver(int run, int position, BatchLogits logits, int token);
