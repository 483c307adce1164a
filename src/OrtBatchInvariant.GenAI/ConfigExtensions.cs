using System.Globalization;
using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Internal;

namespace OrtBatchInvariant.GenAI;

/// <summary>Makes GenAI models batch-invariant.</summary>
public static class ConfigExtensions
{
    /// <summary>
    /// Has models created from this configuration served by the batch-invariant provider. Replaces the providers that the
    /// configuration lists.
    /// </summary>
    /// <param name="config">The configuration of a model; create the <see cref="Model"/> from it afterwards.</param>
    /// <param name="options">What to ask of the provider; by default strict, on the CPU, with GenAI's number of threads.</param>
    /// <returns><paramref name="config"/>.</returns>
    /// <exception cref="BatchInvariantException">The provider cannot be registered, or the options make no sense here.</exception>
    /// <remarks>A strict model with a node that would vary is refused by the constructor of <see cref="Model"/>, with an
    /// <see cref="OnnxRuntimeGenAIException"/> that names the node.</remarks>
    public static Config UseBatchInvariant(this Config config, BatchInvariantGenAIOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(config);
        options ??= new BatchInvariantGenAIOptions();
        if (options.IntraOpThreads is < 1)
        {
            throw new BatchInvariantException($"{nameof(options.IntraOpThreads)} is {options.IntraOpThreads}: use 1 or more, or null for GenAI's choice.");
        }

        var lease = new CoverageReportLease(options.ReportId);
        IReadOnlyDictionary<string, string> providerOptions = lease.AddTo(options.ToProviderOptions());

        BatchInvariantProvider.Register();
        OnnxRuntimeImages.ThrowIfSeveral();

        if (options.IntraOpThreads is { } threads)
        {
            config.Overlay(string.Create(
                CultureInfo.InvariantCulture, $$"""{ "model": { "decoder": { "session_options": { "intra_op_num_threads": {{threads}} } } } }"""));
        }

        config.ClearProviders();
        config.AppendProvider(BatchInvariantProvider.Name);
        foreach ((string key, string value) in providerOptions)
        {
            config.SetProviderOption(BatchInvariantProvider.Name, key, value);
        }

        foreach (string provider in options.FollowingProviders)
        {
            config.AppendProvider(provider);
        }

        CoverageReportLease.Attach(config, lease);
        return config;
    }
}
