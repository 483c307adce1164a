namespace OrtBatchInvariant.Models.Export;

/// <summary>How a model stretches rotary frequencies to a longer context than it was trained with first.</summary>
public abstract record RopeScaling
{
    /// <summary>Multiplies cosines and sines.</summary>
    internal virtual double Magnitude => 1;

    /// <summary>Frequency <paramref name="index"/>, which without scaling is 1 / <paramref name="period"/>, in fp32.</summary>
    internal abstract float Frequency(float period, int index, int contextLength);

    /// <exception cref="ModelException">A factor is out of range, or there are not <paramref name="frequencies"/> of them.</exception>
    internal abstract void Validate(string source, int frequencies);

    private protected static void Require(bool isInRange, string source, string type)
    {
        if (!isInRange)
        {
            throw new ModelException($"{source}: rope scaling of type {type} has factors out of range.");
        }
    }
}

/// <summary>All frequencies divided by a factor.</summary>
/// <param name="Factor">The divisor.</param>
public sealed record LinearRopeScaling(double Factor) : RopeScaling
{
    internal override float Frequency(float period, int index, int contextLength) => 1f / period / (float)Factor;

    internal override void Validate(string source, int frequencies) => Require(Factor > 0 && double.IsFinite(Factor), source, "linear");
}

/// <summary>
/// The <c>llama3</c> scaling: wavelengths above <c>OriginalContextLength / LowFrequencyFactor</c> are stretched by
/// <c>Factor</c>, those below <c>OriginalContextLength / HighFrequencyFactor</c> are kept, and those between are interpolated.
/// </summary>
/// <param name="Factor">Stretch of low frequencies.</param>
/// <param name="LowFrequencyFactor">Divides the original context length into the upper wavelength bound.</param>
/// <param name="HighFrequencyFactor">Divides the original context length into the lower wavelength bound.</param>
/// <param name="OriginalContextLength">Context length of pre-training, in tokens.</param>
public sealed record Llama3RopeScaling(
    double Factor, double LowFrequencyFactor, double HighFrequencyFactor, int OriginalContextLength) : RopeScaling
{
    internal override float Frequency(float period, int index, int contextLength)
    {
        var frequency = 1f / period;
        var wavelength = 2 * Math.PI / frequency;
        if (wavelength < OriginalContextLength / HighFrequencyFactor)
        {
            return frequency;
        }

        if (wavelength > OriginalContextLength / LowFrequencyFactor)
        {
            return (float)(frequency / Factor);
        }

        var smooth = ((OriginalContextLength / wavelength) - LowFrequencyFactor) / (HighFrequencyFactor - LowFrequencyFactor);
        return (float)(((1 - smooth) * frequency / Factor) + (smooth * frequency));
    }

    internal override void Validate(string source, int frequencies) => Require(
        Factor > 0 && LowFrequencyFactor > 0 && HighFrequencyFactor > LowFrequencyFactor && OriginalContextLength > 0, source, "llama3");
}

/// <summary>
/// The <c>longrope</c> scaling: each frequency divided by a factor of its own, from one list up to the original context length
/// and from another beyond it. Which of the two is settled by the context length that a model is exported for, not by the
/// length of a sequence: a choice by the longest sequence of a batch, as GenAI's model builder makes it, gives a row other
/// logits beside a long neighbour, and a choice by the row's own length makes decoding differ from prefill.
/// </summary>
/// <param name="ShortFactors">Divisors for contexts up to the original length; one a frequency.</param>
/// <param name="LongFactors">Divisors for longer contexts; one a frequency.</param>
/// <param name="OriginalContextLength">Context length of pre-training, in tokens.</param>
/// <param name="AttentionFactor">Multiplies cosines and sines.</param>
public sealed record LongRopeScaling(
    IReadOnlyList<double> ShortFactors, IReadOnlyList<double> LongFactors, int OriginalContextLength, double AttentionFactor)
    : RopeScaling
{
    internal override double Magnitude => AttentionFactor;

    /// <summary>sqrt(1 + ln(context / original) / ln(original)), and 1 for a context that is not longer.</summary>
    internal static double AttentionFactorFor(double stretch, int originalContextLength) =>
        stretch <= 1 ? 1 : Math.Sqrt(1 + (Math.Log(stretch) / Math.Log(originalContextLength)));

    internal override float Frequency(float period, int index, int contextLength) =>
        1f / ((float)(contextLength > OriginalContextLength ? LongFactors : ShortFactors)[index] * period);

    internal override void Validate(string source, int frequencies)
    {
        if (ShortFactors.Count != frequencies || LongFactors.Count != frequencies)
        {
            throw new ModelException(
                $"{source}: rope scaling of type longrope has {ShortFactors.Count} short and {LongFactors.Count} long factors; "
                + $"{frequencies} frequencies need as many.");
        }

        Require(
            ShortFactors.Concat(LongFactors).All(factor => factor > 0 && double.IsFinite(factor))
                && OriginalContextLength > 1 && AttentionFactor > 0 && double.IsFinite(AttentionFactor),
            source,
            "longrope");
    }
}
