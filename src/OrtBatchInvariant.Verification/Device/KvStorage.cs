using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>
/// KV buffers of a number of rows on the device, each bound as past and as present alike. Rows lie one after the other, so that any
/// range of them is a batch.
/// </summary>
internal sealed class KvStorage : IDisposable
{
    private readonly DecoderModel _model;
    private readonly List<OrtValue> _values = [];

    /// <exception cref="VerificationException">The graph gives back longer caches than it takes, or the memory does not suffice.</exception>
    public KvStorage(DecoderModel model, int rows, int capacity, bool poisons)
    {
        if (!model.Shape.SharesBuffer)
        {
            throw new VerificationException($"{model.Folder.DecoderFile}: past and present keys and values are not one buffer in this graph, as GroupQueryAttention has them.");
        }

        _model = model;
        Rows = rows;
        Capacity = capacity;
        try
        {
            foreach (CacheValue cache in model.Shape.Cache)
            {
                long[] shape = Shape(cache, rows);
                _values.Add(model.Memory.Allocate(cache.Type, shape));
                model.Memory.Fill(_values[^1], cache.Type, poisons ? (byte)0xFF : (byte)0, shape);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public int Rows { get; }

    /// <summary>Tokens that the buffer of a row holds.</summary>
    public int Capacity { get; }

    /// <summary>The buffers of all rows, in the order of the shape's cache.</summary>
    public IReadOnlyList<OrtValue> Values => _values;

    /// <summary>The buffers of a range of rows, in the order of the shape's cache. The caller disposes them.</summary>
    public IReadOnlyList<OrtValue> View(int first, int rows) => [.. _model.Shape.Cache.Select((cache, i) => View(cache, _values[i], first, rows))];

    /// <summary>Copies the keys and values of a row over those of another.</summary>
    public void Copy(int from, int to)
    {
        for (int i = 0; i < _values.Count; i++)
        {
            CacheValue cache = _model.Shape.Cache[i];
            using OrtValue source = View(cache, _values[i], from, 1);
            using OrtValue target = View(cache, _values[i], to, 1);
            _model.Memory.Copy(source, target);
        }
    }

    /// <summary>Fills all rows with random numbers.</summary>
    public void Randomize(int seed)
    {
        for (int i = 0; i < _values.Count; i++)
        {
            CacheValue cache = _model.Shape.Cache[i];
            using OrtValue noise = DeviceMemory.AllocateHost(cache.Type, Shape(cache, Rows));
            FillWithNoise(noise.GetTensorMutableRawData(), seed);
            _model.Memory.Copy(noise, _values[i]);
        }
    }

    public void Dispose()
    {
        foreach (OrtValue value in _values)
        {
            value.Dispose();
        }
    }

    private long[] Shape(CacheValue cache, int rows) => [rows, cache.HeadCount, Capacity, cache.HeadSize];

    private unsafe OrtValue View(CacheValue cache, OrtValue whole, int first, int rows)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(first + rows, Rows);
        long rowBytes = (long)cache.HeadCount * Capacity * cache.HeadSize * DecoderShape.ElementBytes(cache.Type);

        // The address alone: memory of a GPU cannot be read through the span.
        byte* start = (byte*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(whole.GetTensorMutableRawData()));
        return OrtValue.CreateTensorValueWithData(whole.GetTensorMemoryInfo(), cache.Type, Shape(cache, rows), (nint)(start + (first * rowBytes)), rows * rowBytes);
    }

    // Small numbers of either sign in fp16 and bf16, and in fp32: the exponent is never that of infinities.
    private static void FillWithNoise(Span<byte> bytes, int seed)
    {
        new Random(seed).NextBytes(bytes);
        foreach (ref ushort half in MemoryMarshal.Cast<byte, ushort>(bytes))
        {
            half = (ushort)((half & 0x83FF) | 0x3400);
        }
    }
}
