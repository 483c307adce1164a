using OrtBatchInvariant.Verification.Experiments;

namespace OrtBatchInvariant.Cli.Demo;

/// <summary>What a model did with stock and with batch-invariant kernels.</summary>
internal sealed record DemoModelResult(DemoModel Model, ExperimentResult Stock, ExperimentResult BatchInvariant);

/// <summary>What the demo found.</summary>
/// <param name="Models">The results, a model each.</param>
/// <param name="RequiredCompletions">The number of completions that the claim needs.</param>
/// <param name="Threads">The number of threads of all runs that do not vary it.</param>
/// <param name="Seed">What the neighbours were drawn from.</param>
/// <param name="Elapsed">How long it took.</param>
internal sealed record DemoResult(IReadOnlyList<DemoModelResult> Models, int RequiredCompletions, int Threads, int Seed, TimeSpan Elapsed)
{
    /// <summary>Completions with each set of kernels.</summary>
    public int Completions => Models.Sum(model => model.BatchInvariant.All.Completions);

    public bool HasEnoughCompletions => Completions >= RequiredCompletions;

    public bool IsInvariant => Models.All(model => model.BatchInvariant.IsInvariant);

    public bool Passed => IsInvariant && HasEnoughCompletions;
}
