using Microsoft.ML.OnnxRuntime;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>The KV cache of a batch, and where in it the tokens of each row are.</summary>
internal abstract class DecoderCache : IDisposable
{
    /// <summary>Binds what the next run reads and writes.</summary>
    public abstract void Bind(OrtIoBinding binding);

    /// <summary>The keys and values as they are now, in the order of the shape.</summary>
    public abstract IReadOnlyList<OrtValue> Values { get; }

    /// <summary>Takes over what a run gave back, if it is not in place already.</summary>
    /// <returns>What was taken; the caller disposes the rest.</returns>
    public abstract HashSet<OrtValue> Take(IReadOnlyDictionary<string, OrtValue> outputs);

    /// <summary>The place in the cache of the next token of a row.</summary>
    /// <param name="length">Tokens of the row so far.</param>
    /// <param name="ahead">How many tokens of this run come before it.</param>
    public abstract int Slot(int length, int ahead);

    /// <summary>Places that the attention mask spans in a run of so many tokens.</summary>
    public abstract int Width(int longest, int tokens);

    public abstract void Dispose();
}

/// <summary>One buffer for past and present, in which rows lie without gaps.</summary>
internal sealed class SharedCache : DecoderCache
{
    private readonly DecoderShape _shape;
    private readonly KvStorage? _owned;
    private readonly bool _isWhole;
    private readonly IReadOnlyList<OrtValue> _values;

    public SharedCache(DecoderModel model, KvStorage storage, int first, int rows, bool owns)
    {
        _shape = model.Shape;
        _owned = owns ? storage : null;
        _isWhole = first == 0 && rows == storage.Rows;
        _values = _isWhole ? storage.Values : storage.View(first, rows);
    }

    public override void Bind(OrtIoBinding binding)
    {
        for (int i = 0; i < _values.Count; i++)
        {
            binding.BindInput(_shape.Cache[i].Past, _values[i]);
            binding.BindOutput(_shape.Cache[i].Present, _values[i]);
        }
    }

    public override IReadOnlyList<OrtValue> Values => _values;

    public override HashSet<OrtValue> Take(IReadOnlyDictionary<string, OrtValue> outputs) => [];

    public override int Slot(int length, int ahead) => length + ahead;

    public override int Width(int longest, int tokens) => longest + tokens;

    public override void Dispose()
    {
        foreach (OrtValue value in _isWhole ? [] : _values)
        {
            value.Dispose();
        }

        _owned?.Dispose();
    }
}

/// <summary>A cache to which each run appends for all rows alike, padding included.</summary>
internal sealed class GrowingCache : DecoderCache
{
    private readonly DecoderModel _model;
    private readonly List<OrtValue> _values = [];
    private int _width;

    public GrowingCache(DecoderModel model, int rows)
    {
        _model = model;
        foreach (CacheValue cache in model.Shape.Cache)
        {
            _values.Add(model.Memory.Allocate(cache.Type, rows, cache.HeadCount, 0, cache.HeadSize));
        }
    }

    public override void Bind(OrtIoBinding binding)
    {
        for (int i = 0; i < _values.Count; i++)
        {
            binding.BindInput(_model.Shape.Cache[i].Past, _values[i]);
            binding.BindOutputToDevice(_model.Shape.Cache[i].Present, _model.Memory.Info);
        }
    }

    public override IReadOnlyList<OrtValue> Values => _values;

    public override HashSet<OrtValue> Take(IReadOnlyDictionary<string, OrtValue> outputs)
    {
        for (int i = 0; i < _values.Count; i++)
        {
            _values[i].Dispose();
            _values[i] = outputs[_model.Shape.Cache[i].Present];
        }

        _width = (int)_values[0].GetTensorTypeAndShape().Shape[2];
        return [.. _values];
    }

    public override int Slot(int length, int ahead) => _width + ahead;

    public override int Width(int longest, int tokens) => _width + tokens;

    public override void Dispose()
    {
        foreach (OrtValue value in _values)
        {
            value.Dispose();
        }
    }
}

/// <summary>For graphs that keep nothing: each run takes the whole text anew.</summary>
internal sealed class NoCache : DecoderCache
{
    public override IReadOnlyList<OrtValue> Values => [];

    public override void Bind(OrtIoBinding binding)
    {
    }

    public override HashSet<OrtValue> Take(IReadOnlyDictionary<string, OrtValue> outputs) => [];

    public override int Slot(int length, int ahead) => length + ahead;

    public override int Width(int longest, int tokens) => tokens;

    public override void Dispose()
    {
    }
}
