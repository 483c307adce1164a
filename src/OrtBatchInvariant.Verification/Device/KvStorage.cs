using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>
/// KV buffers of a number of rows on the device, each bound as past and as present alike. Rows lie one after the other, so that any
/// range of them is a batch.
/// </summary>
internal sealed class KvStorage : IDisposable
{
    // Odd, in elements too, so that no two rows are alike; and more than caches near a processor hold.
    private const int NoiseBytes = 16_777_214;

    private readonly DecoderModel _model;
    private readonly List<OrtValue> _values = [];
    private OrtValue? _logits;
    private long _logitsBytes;

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
        CheckMemory();
        try
        {
            foreach (CacheValue cache in model.Shape.Cache)
            {
                _values.Add(model.Memory.Allocate(cache.Type, Shape(cache, rows)));
            }

            FillAll(bytes => bytes.Fill(poisons ? (byte)0xFF : (byte)0));
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

    /// <summary>
    /// Room for the logits of a run on the device, used again by every run, since allocators of a device can take longer than the run.
    /// The caller disposes it.
    /// </summary>
    public OrtValue Logits(int rows, int tokens)
    {
        long[] shape = [rows, tokens, _model.Shape.VocabularySize];
        long bytes = (long)rows * tokens * _model.Shape.LogitsBytes;
        if (bytes > int.MaxValue)
        {
            // A span reaches no further.
            return _model.Memory.Allocate(_model.Shape.LogitsType, shape);
        }

        if (bytes > _logitsBytes)
        {
            _logits?.Dispose();
            _logits = null;
            _logits = _model.Memory.Allocate(_model.Shape.LogitsType, shape);
            _logitsBytes = bytes;
        }

        return DeviceMemory.Slice(_logits!, _model.Shape.LogitsType, shape, 0);
    }

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

    /// <summary>Fills all rows with random numbers, which repeat after some.</summary>
    public void Randomize(int seed)
    {
        byte[] noise = new byte[NoiseBytes];
        FillWithNoise(noise, seed);
        FillAll(bytes =>
        {
            for (; bytes.Length > noise.Length; bytes = bytes[noise.Length..])
            {
                noise.CopyTo(bytes);
            }

            noise.AsSpan(0, bytes.Length).CopyTo(bytes);
        });
    }

    public void Dispose()
    {
        _logits?.Dispose();
        foreach (OrtValue value in _values)
        {
            value.Dispose();
        }
    }

    // Each buffer is filled where it is in host memory; else one piece of that serves all buffers of a shape.
    private void FillAll(FillBytes fill)
    {
        if (_model.Memory.IsHost)
        {
            _values.ForEach(value => fill(value.GetTensorMutableRawData()));
            return;
        }

        foreach (IGrouping<(TensorElementType, long, long), int> alike in Enumerable.Range(0, _values.Count).GroupBy(i => Alike(_model.Shape.Cache[i])))
        {
            CacheValue cache = _model.Shape.Cache[alike.First()];
            using OrtValue host = DeviceMemory.AllocateHost(cache.Type, Shape(cache, Rows));
            fill(host.GetTensorMutableRawData());
            foreach (int i in alike)
            {
                _model.Memory.Copy(host, _values[i]);
            }
        }

        static (TensorElementType Type, long Heads, long Size) Alike(CacheValue cache) => (cache.Type, cache.HeadCount, cache.HeadSize);
    }

    private delegate void FillBytes(Span<byte> bytes);

    // A system that promises more memory than it has would end the process once the buffers are filled.
    private void CheckMemory()
    {
        double bytes = _model.Shape.Cache.Sum(cache => (double)Rows * cache.HeadCount * Capacity * cache.HeadSize * DecoderShape.ElementBytes(cache.Type));
        long available = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        if (_model.Memory.IsHost && bytes > available)
        {
            throw new VerificationException(FormattableString.Invariant(
                $"KV buffers of {Rows} rows of {Capacity} tokens take {bytes / (1L << 30):F1} GiB, and this machine has {(double)available / (1L << 30):F1} GiB: use fewer rows."));
        }
    }

    private long[] Shape(CacheValue cache, int rows) => [rows, cache.HeadCount, Capacity, cache.HeadSize];

    private OrtValue View(CacheValue cache, OrtValue whole, int first, int rows)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(first + rows, Rows);
        long rowBytes = (long)cache.HeadCount * Capacity * cache.HeadSize * DecoderShape.ElementBytes(cache.Type);
        return DeviceMemory.Slice(whole, cache.Type, Shape(cache, rows), first * rowBytes);
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
