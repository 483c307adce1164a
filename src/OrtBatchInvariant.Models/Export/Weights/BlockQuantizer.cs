using System.Runtime.Intrinsics;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Export.Weights;

/// <summary>
/// Round-to-nearest quantisation of weights in blocks along K, as ONNX Runtime's default MatMulNBits quantiser does it;
/// w is approximated by (q - zero) * scale with q in [0, 2^bits - 1].
/// <list type="bullet">
/// <item>Symmetric: zero = 2^(bits-1); scale = -m / 2^(bits-1), where m is the element of largest magnitude (the smallest
/// element if a positive and a negative one tie), so that m maps to q = 0 and the scale's sign follows m.</item>
/// <item>Asymmetric: the range [lo, hi] is widened to hold 0; scale = (hi - lo) / (2^bits - 1), zero = round(-lo / scale).</item>
/// </list>
/// q = clamp(round(w * (1 / scale) + zero)), in fp32, halves away from zero; 1 / scale counts as 0 where the scale is 0.
/// Two 4-bit values share a byte, the earlier one in the low nibble; bytes past the end of K stay 0.
/// </summary>
internal sealed class BlockQuantizer
{
    private const int MaxBlockSize = 256;

    private readonly int _max;
    private readonly int _middle;
    private readonly int _valuesPerByte;
    private readonly DataType _scaleType;

    /// <param name="bits">4 or 8.</param>
    /// <param name="blockSize">Elements that share a scale: a power of two from 16 to 256.</param>
    /// <param name="symmetric">Whether the zero point is fixed to the middle.</param>
    /// <param name="scaleType">Element type of scales; weights and scales are rounded to it before they are used.</param>
    public BlockQuantizer(int bits, int blockSize, bool symmetric, DataType scaleType)
    {
        Bits = bits;
        BlockSize = blockSize;
        IsSymmetric = symmetric;
        _scaleType = scaleType;
        _max = (1 << bits) - 1;
        _middle = 1 << (bits - 1);
        _valuesPerByte = 8 / bits;
    }

    public int Bits { get; }

    public int BlockSize { get; }

    public bool IsSymmetric { get; }

    /// <summary>Bytes of one block of quantised values.</summary>
    public int BlobBytes => BlockSize / _valuesPerByte;

    public int BlockCount(int k) => (k + BlockSize - 1) / BlockSize;

    /// <summary>Bytes of one row's packed zero points.</summary>
    public int ZeroPointBytes(int k) => (BlockCount(k) + _valuesPerByte - 1) / _valuesPerByte;

    /// <summary>Quantises one row of a weight matrix [N, K].</summary>
    /// <param name="row">K weights; rounded in place to the scale type.</param>
    /// <param name="packed">BlockCount(K) * BlobBytes bytes.</param>
    /// <param name="scales">BlockCount(K) scales.</param>
    /// <param name="zeroPoints">ZeroPointBytes(K) bytes; empty if symmetric. An unused last nibble holds the middle.</param>
    /// <param name="tensorName">Named in errors.</param>
    /// <exception cref="ModelException">A weight is NaN or infinite.</exception>
    public void QuantizeRow(Span<float> row, Span<byte> packed, Span<float> scales, Span<byte> zeroPoints, string tensorName)
    {
        packed.Clear();
        if (!IsSymmetric)
        {
            zeroPoints.Fill(Bits == 4 ? (byte)(_middle * 0x11) : (byte)_middle);
        }

        if (_scaleType != DataType.Float)
        {
            for (var i = 0; i < row.Length; i++)
            {
                row[i] = FloatEncoding.Round(row[i], _scaleType, tensorName);
            }
        }

        for (var block = 0; block < scales.Length; block++)
        {
            var values = row.Slice(block * BlockSize, Math.Min(BlockSize, row.Length - (block * BlockSize)));
            var zero = _middle;
            scales[block] = IsSymmetric ? SymmetricScale(values, tensorName) : AsymmetricScale(values, tensorName, out zero);
            if (!IsSymmetric)
            {
                StoreZeroPoint(zeroPoints, block, zero);
            }

            PackBlock(values, scales[block], zero, packed.Slice(block * BlobBytes, BlobBytes));
        }
    }

    private float SymmetricScale(ReadOnlySpan<float> values, string tensorName)
    {
        var (low, high) = Range(values, tensorName);
        var extreme = MathF.Abs(high) > MathF.Abs(low) ? high : low;
        return FloatEncoding.Round(-extreme / _middle, _scaleType, tensorName);
    }

    private float AsymmetricScale(ReadOnlySpan<float> values, string tensorName, out int zero)
    {
        var (low, high) = Range(values, tensorName);
        low = MathF.Min(low, 0f);
        high = MathF.Max(high, 0f);
        var scale = (high - low) / _max;
        var exactZero = scale != 0f ? 0f - (low / scale) : low;
        zero = (int)MathF.Round(Math.Clamp(exactZero, 0f, _max), MidpointRounding.AwayFromZero);
        return FloatEncoding.Round(scale, _scaleType, tensorName);
    }

    private static (float Low, float High) Range(ReadOnlySpan<float> values, string tensorName)
    {
        var low = float.MaxValue;
        var high = -float.MaxValue;
        var finite = 0f;
        var i = 0;
        if (values.Length >= Vector256<float>.Count)
        {
            var lows = Vector256.Create(low);
            var highs = Vector256.Create(high);
            var finites = Vector256<float>.Zero;
            for (; i <= values.Length - Vector256<float>.Count; i += Vector256<float>.Count)
            {
                var value = Vector256.Create(values[i..]);
                lows = Vector256.Min(lows, value);
                highs = Vector256.Max(highs, value);
                finites += value * 0f;
            }

            for (var lane = 0; lane < Vector256<float>.Count; lane++)
            {
                low = MathF.Min(low, lows[lane]);
                high = MathF.Max(high, highs[lane]);
                finite += finites[lane];
            }
        }

        for (; i < values.Length; i++)
        {
            low = MathF.Min(low, values[i]);
            high = MathF.Max(high, values[i]);
            finite += values[i] * 0f;
        }

        return finite == 0f
            ? (low, high)
            : throw new ModelException($"Tensor '{tensorName}' holds a NaN or an infinity, which cannot be quantised.");
    }

    private void PackBlock(ReadOnlySpan<float> values, float scale, int zero, Span<byte> blob)
    {
        Span<int> quantized = stackalloc int[MaxBlockSize];
        Quantize(values, scale != 0f ? 1f / scale : 0f, zero, quantized);
        if (Bits == 8)
        {
            for (var i = 0; i < values.Length; i++)
            {
                blob[i] = (byte)quantized[i];
            }

            return;
        }

        // An odd last value has a zero beside it, the fill of unused bits: the buffer starts out cleared.
        for (var i = 0; i < values.Length; i += 2)
        {
            blob[i / 2] = (byte)(quantized[i] | (quantized[i + 1] << 4));
        }
    }

    private void Quantize(ReadOnlySpan<float> values, float reciprocal, int zero, Span<int> quantized)
    {
        // Adding the largest float below 0.5 and truncating rounds halves up, and up is away from zero: all is positive.
        const float BelowHalf = 0.49999997f;
        var i = 0;
        var (none, max) = (Vector256<float>.Zero, Vector256.Create((float)_max));
        for (; i <= values.Length - Vector256<float>.Count; i += Vector256<float>.Count)
        {
            var exact = (Vector256.Create(values[i..]) * reciprocal) + Vector256.Create((float)zero);
            var clamped = Vector256.Min(Vector256.Max(exact, none), max);
            Vector256.ConvertToInt32(clamped + Vector256.Create(BelowHalf)).CopyTo(quantized[i..]);
        }

        for (; i < values.Length; i++)
        {
            quantized[i] = (int)(Math.Clamp((values[i] * reciprocal) + zero, 0f, _max) + BelowHalf);
        }
    }

    private void StoreZeroPoint(Span<byte> zeroPoints, int block, int zero)
    {
        if (Bits == 8)
        {
            zeroPoints[block] = (byte)zero;
            return;
        }

        var shift = block % 2 * 4;
        ref var pair = ref zeroPoints[block / 2];
        pair = (byte)((pair & ~(0xF << shift)) | (zero << shift));
    }
}
