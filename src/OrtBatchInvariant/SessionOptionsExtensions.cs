using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Internal;

namespace OrtBatchInvariant;

/// <summary>Adds the batch-invariant provider to the options of an <see cref="InferenceSession"/>.</summary>
public static class SessionOptionsExtensions
{
    /// <summary>
    /// Puts the batch-invariant provider next in the session's list of providers, registering it if need be. Call it before other
    /// providers are appended, so that it is asked first.
    /// </summary>
    /// <param name="sessionOptions">The options to add to. Use them for one session: its coverage report is found by them.</param>
    /// <param name="options">What to ask of the provider; by default strict and on the CPU.</param>
    /// <returns><paramref name="sessionOptions"/>.</returns>
    /// <exception cref="BatchInvariantException">The provider cannot be registered, or the options make no sense here.</exception>
    /// <remarks>A strict session with a node that would vary is refused by the constructor of <see cref="InferenceSession"/>, with an
    /// <see cref="OnnxRuntimeException"/> that names the node.</remarks>
    public static SessionOptions AppendBatchInvariant(this SessionOptions sessionOptions, BatchInvariantOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(sessionOptions);
        options ??= new BatchInvariantOptions();
        var lease = new CoverageReportLease(options.ReportId);
        IReadOnlyDictionary<string, string> providerOptions = lease.AddTo(options.ToProviderOptions());

        OrtEnv environment = OnnxRuntimeEnvironment.Instance();
        BatchInvariantProvider.Register(environment);
        sessionOptions.AppendExecutionProvider(
            environment, [BatchInvariantProvider.FindDevice(environment, options.DeviceId)], providerOptions);
        CoverageReportLease.Attach(sessionOptions, lease);
        return sessionOptions;
    }
}
