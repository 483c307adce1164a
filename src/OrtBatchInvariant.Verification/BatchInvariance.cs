using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification;

/// <summary>What <see cref="BatchInvariance.AssertAsync"/> runs.</summary>
public sealed record BatchInvarianceOptions
{
    /// <summary>Where and with whose kernels the model runs.</summary>
    /// <value>The default is batch-invariant, on the CPU.</value>
    public DecoderModelOptions Decoder { get; init; } = new();

    /// <summary>What is varied, and how much.</summary>
    /// <value>The default is few values of every axis.</value>
    public AuditOptions Audit { get; init; } = new() { IsQuick = true, MaxRows = 8 };
}

/// <summary>Logits depend on the batch. The message names the axes and the node.</summary>
public sealed class BatchInvarianceException : Exception
{
    internal BatchInvarianceException(string message, AuditResult result)
        : base(message) => Result = result;

    /// <summary>All that was found.</summary>
    public AuditResult Result { get; }
}

/// <summary>Batch invariance as a test, for any test framework.</summary>
public static class BatchInvariance
{
    /// <summary>Audits a model and throws if a logit depends on the batch.</summary>
    /// <param name="model">A GenAI model folder, or a decoder's <c>.onnx</c> file.</param>
    /// <param name="options">How to run it, and what to vary.</param>
    /// <param name="cancellation">Stops the audit.</param>
    /// <returns>What was found.</returns>
    /// <exception cref="BatchInvarianceException">Logits differ; the message names the axes and the node.</exception>
    /// <exception cref="VerificationException">The model cannot be audited, or nothing could be compared.</exception>
    /// <exception cref="OperationCanceledException">It was stopped.</exception>
    public static async Task<AuditResult> AssertAsync(string model, BatchInvarianceOptions? options = null, CancellationToken cancellation = default)
    {
        options ??= new BatchInvarianceOptions();
        OnnxRuntimeLibrary.LoadFirst();
        AuditResult result = await Task.Run(
            () => InvarianceAudit.Run(ModelFolder.OpenDecoder(model), options.Decoder, options.Audit, cancellation: cancellation), cancellation).ConfigureAwait(false);
        cancellation.ThrowIfCancellationRequested();
        if (result.Axes.FirstOrDefault(axis => axis.Varies) is { } varying)
        {
            throw new BatchInvarianceException(
                $"{result.Subject.Model} with {result.Subject.Provider} kernels depends on {string.Join(", ", result.Axes.Where(axis => axis.Varies).Select(axis => axis.Name))}. "
                + $"{char.ToUpperInvariant(varying.Name[0])}{varying.Name[1..]}: {AuditMessage.Axis(varying)}{(result.Blame is { } blame ? $" {AuditMessage.Blame(blame)}" : "")}",
                result);
        }

        return result.IsInvariant ? result : throw new VerificationException($"{model}: nothing was compared, so nothing was shown: choose axes that can be run.");
    }
}
