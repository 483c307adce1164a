namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>
/// Cosines and sines of the rotary embedding, [context length, head size / 2]: angle = position * frequency with
/// frequency_i = theta^(-2i / head size), rescaled where the model says so. Frequencies and angles are rounded to fp32 as
/// PyTorch does it, and cosine and sine are taken of the rounded angle.
/// </summary>
internal static class RotaryCache
{
    public static (float[] Cos, float[] Sin) Compute(HfConfig config)
    {
        var frequencies = Frequencies(config);
        var half = frequencies.Length;
        var cos = new float[(long)config.ContextLength * half];
        var sin = new float[cos.LongLength];
        Parallel.For(0, config.ContextLength, position =>
        {
            for (var i = 0; i < half; i++)
            {
                double angle = position * frequencies[i];
                var index = ((long)position * half) + i;
                cos[index] = (float)Math.Cos(angle);
                sin[index] = (float)Math.Sin(angle);
            }
        });
        return (cos, sin);
    }

    private static float[] Frequencies(HfConfig config)
    {
        var frequencies = new float[config.HeadSize / 2];
        for (var i = 0; i < frequencies.Length; i++)
        {
            var exponent = (float)(2 * i) / config.HeadSize;
            frequencies[i] = 1f / (float)Math.Pow(config.RopeTheta, exponent);
            if (config.RopeScaling is { } scaling)
            {
                frequencies[i] = Rescale(frequencies[i], scaling);
            }
        }

        return frequencies;
    }

    private static float Rescale(float frequency, RopeScaling scaling)
    {
        var wavelength = 2 * Math.PI / frequency;
        if (wavelength < scaling.OriginalContextLength / scaling.HighFrequencyFactor)
        {
            return frequency;
        }

        if (wavelength > scaling.OriginalContextLength / scaling.LowFrequencyFactor)
        {
            return (float)(frequency / scaling.Factor);
        }

        var smooth = ((scaling.OriginalContextLength / wavelength) - scaling.LowFrequencyFactor)
            / (scaling.HighFrequencyFactor - scaling.LowFrequencyFactor);
        return (float)(((1 - smooth) * frequency / scaling.Factor) + (smooth * frequency));
    }
}
