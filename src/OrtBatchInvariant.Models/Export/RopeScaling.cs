namespace OrtBatchInvariant.Models.Export;

/// <summary>
/// The <c>llama3</c> scaling of rotary frequencies: wavelengths above <c>OriginalContextLength / LowFrequencyFactor</c> are
/// stretched by <c>Factor</c>, those below <c>OriginalContextLength / HighFrequencyFactor</c> are kept, and those between
/// are interpolated.
/// </summary>
/// <param name="Factor">Stretch of low frequencies.</param>
/// <param name="LowFrequencyFactor">Divides the original context length into the upper wavelength bound.</param>
/// <param name="HighFrequencyFactor">Divides the original context length into the lower wavelength bound.</param>
/// <param name="OriginalContextLength">Context length of pre-training, in tokens.</param>
public sealed record RopeScaling(
    double Factor, double LowFrequencyFactor, double HighFrequencyFactor, int OriginalContextLength);
