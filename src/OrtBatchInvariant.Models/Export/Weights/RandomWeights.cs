using System.Runtime.CompilerServices;

namespace OrtBatchInvariant.Models.Export.Weights;

/// <summary>
/// Weights from a seed, for models whose shape matters and whose text does not. Each value depends on the seed, the
/// tensor's name and its index only, so any order and any number of threads give the same file.
/// Matrices are near normal with deviation 1/sqrt(K), so that products keep the size of their input; projections back into
/// the residual stream are smaller by sqrt(2 layers), so that it does not grow. Norms, with the offset that a model adds to
/// their weights, are near 1, biases near 0.
/// </summary>
internal sealed class RandomWeights(ulong seed, int layerCount, float normOffset) : IWeightSource
{
    private const float VectorDeviation = 0.05f;

    public MatrixSource Matrix(string name, int rows, int columns)
    {
        var deviation = 1.0 / Math.Sqrt(columns);
        if (name.EndsWith("o_proj.weight", StringComparison.Ordinal) || name.EndsWith("down_proj.weight", StringComparison.Ordinal))
        {
            deviation /= Math.Sqrt(2.0 * layerCount);
        }

        return new RandomMatrix(name, rows, columns, KeyOf(name), (float)deviation);
    }

    public float[] Vector(string name, int length)
    {
        var key = KeyOf(name);
        var center = name.EndsWith("bias", StringComparison.Ordinal) ? 0f : 1f - normOffset;
        var values = new float[length];
        for (var i = 0; i < length; i++)
        {
            values[i] = center + (VectorDeviation * NearNormal(key + (ulong)i));
        }

        return values;
    }

    public void CheckAllUsed()
    {
    }

    /// <summary>FNV-1a of the name, mixed with the seed; tensors get well separated counter ranges.</summary>
    private ulong KeyOf(string name)
    {
        var hash = 14695981039346656037UL;
        foreach (var c in name)
        {
            hash = (hash ^ c) * 1099511628211UL;
        }

        return Mix(hash ^ Mix(seed));
    }

    /// <summary>The finaliser of SplitMix64 (Steele, Lea, Flood 2014).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Mix(ulong x)
    {
        x += 0x9E3779B97F4A7C15UL;
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9UL;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EBUL;
        return x ^ (x >> 31);
    }

    /// <summary>Sum of four uniform 16-bit numbers, centred and scaled to variance 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float NearNormal(ulong counter)
    {
        const float Mean = 4 * 32767.5f;
        const float InverseDeviation = 1f / 37837.2f;
        var bits = Mix(counter);
        var sum = (uint)(bits & 0xFFFF) + (uint)((bits >> 16) & 0xFFFF) + (uint)((bits >> 32) & 0xFFFF) + (uint)(bits >> 48);
        return (sum - Mean) * InverseDeviation;
    }

    private sealed class RandomMatrix(string name, int rows, int columns, ulong key, float deviation)
        : MatrixSource(name, rows, columns)
    {
        public override void Read(int row, int firstColumn, Span<float> destination)
        {
            var counter = key + ((ulong)row * (ulong)Columns) + (ulong)firstColumn;
            for (var i = 0; i < destination.Length; i++)
            {
                destination[i] = deviation * NearNormal(counter + (ulong)i);
            }
        }
    }
}
