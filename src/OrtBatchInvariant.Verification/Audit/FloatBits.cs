using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>Compares floating-point numbers as the bytes that they are.</summary>
internal static class FloatBits
{
    public static bool IsFloat(TensorElementType type) =>
        type is TensorElementType.Float or TensorElementType.Float16 or TensorElementType.BFloat16 or TensorElementType.Double;

    /// <summary>How two rows of numbers differ.</summary>
    /// <param name="type">A floating-point type.</param>
    /// <param name="expected">Bytes of the one.</param>
    /// <param name="actual">Bytes of the other, equally many.</param>
    public static Difference Compare(TensorElementType type, ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual)
    {
        long count = expected.Length / Bytes(type);
        if (expected.SequenceEqual(actual))
        {
            return new Difference { Compared = count };
        }

        var difference = new Difference { Compared = count };
        for (int i = 0; i < count; i++)
        {
            (long left, double leftValue) = Read(type, expected, i);
            (long right, double rightValue) = Read(type, actual, i);
            if (double.IsFinite(leftValue))
            {
                difference.SquaredReference += leftValue * leftValue;
            }

            if (left == right)
            {
                continue;
            }

            difference.Different++;
            difference.MaxUlp = (long)Int128.Max(difference.MaxUlp, Int128.Min(long.MaxValue, Int128.Abs((Int128)left - right)));
            double delta = Math.Abs(leftValue - rightValue);
            if (double.IsFinite(delta))
            {
                difference.MaxAbsolute = Math.Max(difference.MaxAbsolute, delta);
                difference.SquaredDifference += delta * delta;
            }
        }

        return difference;
    }

    public static int Bytes(TensorElementType type) => type switch
    {
        TensorElementType.Double => 8,
        TensorElementType.Float => 4,
        _ => 2,
    };

    // The first of the pair counts representable numbers, so that neighbours are 1 apart; -0 and 0 are not the same bytes.
    private static (long Ordinal, double Value) Read(TensorElementType type, ReadOnlySpan<byte> bytes, int index)
    {
        switch (type)
        {
            case TensorElementType.Float:
                int single = MemoryMarshal.Cast<byte, int>(bytes)[index];
                return (single < 0 ? -1L - (single & 0x7FFFFFFF) : single, BitConverter.Int32BitsToSingle(single));
            case TensorElementType.Double:
                long wide = MemoryMarshal.Cast<byte, long>(bytes)[index];
                return (wide < 0 ? -1L - (wide & long.MaxValue) : wide, BitConverter.Int64BitsToDouble(wide));
            default:
                short half = MemoryMarshal.Cast<byte, short>(bytes)[index];
                double value = type == TensorElementType.Float16
                    ? (double)BitConverter.Int16BitsToHalf(half)
                    : BitConverter.Int32BitsToSingle(half << 16);
                return (half < 0 ? -1L - (half & 0x7FFF) : half, value);
        }
    }
}

/// <summary>How numbers differ from others.</summary>
internal sealed record Difference
{
    public long Compared { get; set; }

    public long Different { get; set; }

    /// <summary>How many representable numbers two lie apart at most; 0 and -0 are two numbers.</summary>
    public long MaxUlp { get; set; }

    public double MaxAbsolute { get; set; }

    public double SquaredDifference { get; set; }

    public double SquaredReference { get; set; }

    /// <summary>Root mean square of the difference over that of the numbers, where numbers differ at all.</summary>
    public double Relative => Different == 0 ? 0 : SquaredReference > 0 ? Math.Sqrt(SquaredDifference / SquaredReference) : 1;

    public void Add(Difference other)
    {
        Compared += other.Compared;
        Different += other.Different;
        MaxUlp = Math.Max(MaxUlp, other.MaxUlp);
        MaxAbsolute = Math.Max(MaxAbsolute, other.MaxAbsolute);
        SquaredDifference += other.SquaredDifference;
        SquaredReference += other.SquaredReference;
    }
}
