namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>Data for benchmarks: time does not depend on it, as long as there are no denormal numbers.</summary>
internal static class RandomNumbers
{
    /// <summary>A sum of uniform numbers with mean 0 and variance 1, near enough to normal.</summary>
    public static float Normal(Random random) =>
        (random.NextSingle() + random.NextSingle() + random.NextSingle() - 1.5f) * 2;

    public static float[] Normals(long count, float deviation)
    {
        var random = new Random(2);
        float[] numbers = new float[count];
        foreach (ref float number in numbers.AsSpan())
        {
            number = Normal(random) * deviation;
        }

        return numbers;
    }

    public static byte[] Bytes(long count)
    {
        byte[] bytes = new byte[count];
        new Random(3).NextBytes(bytes);
        return bytes;
    }
}
