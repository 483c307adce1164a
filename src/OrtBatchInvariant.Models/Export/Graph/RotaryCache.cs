namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>
/// Cosines and sines of a rotary embedding, [context length, rotated width / 2]: angle = position * frequency with
/// frequency_i = theta^(-2i / rotated width), rescaled where the model says so, times the scaling's magnitude. Frequencies and
/// angles are rounded to fp32 as PyTorch does it, and cosine and sine are taken of the rounded angle.
/// </summary>
internal static class RotaryCache
{
    public static (float[] Cos, float[] Sin) Compute(RotaryEmbedding rope, int headSize, int contextLength)
    {
        var frequencies = Frequencies(rope, headSize, contextLength);
        var half = frequencies.Length;
        var magnitude = (float)(rope.Scaling?.Magnitude ?? 1);
        var cos = new float[(long)contextLength * half];
        var sin = new float[cos.LongLength];
        Parallel.For(0, contextLength, position =>
        {
            for (var i = 0; i < half; i++)
            {
                double angle = position * frequencies[i];
                var index = ((long)position * half) + i;
                cos[index] = (float)Math.Cos(angle) * magnitude;
                sin[index] = (float)Math.Sin(angle) * magnitude;
            }
        });
        return (cos, sin);
    }

    private static float[] Frequencies(RotaryEmbedding rope, int headSize, int contextLength)
    {
        var width = rope.Width(headSize);
        var frequencies = new float[width / 2];
        for (var i = 0; i < frequencies.Length; i++)
        {
            var exponent = (float)(2 * i) / width;
            var period = (float)Math.Pow(rope.Theta, exponent);
            frequencies[i] = rope.Scaling?.Frequency(period, i, contextLength) ?? (1f / period);
        }

        return frequencies;
    }
}
