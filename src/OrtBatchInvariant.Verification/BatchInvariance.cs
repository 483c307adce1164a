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
        if (result.Axes.Any(axis => axis.Varies))
        {
            throw new BatchInvarianceException(Message(result, options.Decoder.Kernels), result);
        }

        return result.IsInvariant ? result : throw new VerificationException($"{model}: nothing was compared, so nothing was shown: choose axes that can be run.");
    }

    // The axis with the nodes, or else the first.
    private static string Message(AuditResult result, KernelSet kernels)
    {
        BlameResult? blame = result.Blame;
        AuditAxisResult[] varying = [.. result.Axes.Where(axis => axis.Varies)];
        AuditAxisResult shown = varying.FirstOrDefault(axis => axis.Id == blame?.AxisId) ?? varying[0];
        string cure = kernels == KernelSet.Stock
            ? "Run it with batch-invariant kernels: `options.AppendBatchInvariant()` in ONNX Runtime, `config.UseBatchInvariant()` in GenAI, or `ortbi convert` for other hosts."
            : "That breaks the library's promise: please report it with what `ortbi verify MODEL --json FILE` writes.";
        return $"{result.Subject.Model} with {result.Subject.Provider} kernels depends on {string.Join(", ", varying.Select(axis => axis.Name))}. "
            + $"{char.ToUpperInvariant(shown.Name[0])}{shown.Name[1..]}: {AuditMessage.Axis(shown)}{(blame is null ? "" : $" {AuditMessage.Blame(blame)}")} {cure}";
    }
}
