using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Internal;

namespace OrtBatchInvariant.GenAI;

/// <summary>Tells what serves a GenAI model.</summary>
public static class ModelExtensions
{
    /// <summary>Which kernel serves each node of the model's decoder, and whether its result can depend on the batch.</summary>
    /// <param name="model">The model.</param>
    /// <param name="config">The configuration that it was created from, with <see cref="ConfigExtensions.UseBatchInvariant"/>.</param>
    /// <exception cref="BatchInvariantException">The configuration does not use the batch-invariant provider.</exception>
    public static CoverageReport GetCoverageReport(this Model model, Config config)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(config);
        return CoverageReportLease.ReadFor(config, $"this {nameof(Config)}", nameof(ConfigExtensions.UseBatchInvariant));
    }
}
