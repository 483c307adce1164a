using System.Diagnostics;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>The most memory that a process held, in bytes.</summary>
/// <param name="Loaded">Until its model was loaded.</param>
/// <param name="Generated">Until it had generated tokens.</param>
public sealed record MemoryUse(long Loaded, long Generated);

/// <summary>Compares the memory of processes that load a model and generate from it, stock and batch-invariant.</summary>
public static class MemoryBenchmark
{
    private const int MostTokens = 256;

    /// <summary>Loads a model in this process, generates from it, and says how much memory the process held at most.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="kernels">What runs it.</param>
    /// <param name="threads">The number of threads that an operator may use.</param>
    /// <remarks>Means something only in a process that did nothing else before.</remarks>
    /// <exception cref="VerificationException">The model cannot be loaded or run.</exception>
    public static MemoryUse Measure(ModelFolder folder, KernelSet kernels, int threads)
    {
        using HostedModel model = HostedModel.Load(folder, new HostOptions { Kernels = kernels, Threads = threads });
        long loaded = Peak();
        GenerationBenchmark.TokensPerSecond(model, batch: 1, NewTokens(folder));
        return new MemoryUse(loaded, Peak());
    }

    /// <summary>Measures a model with both sets of kernels.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="inFreshProcess">Calls <see cref="Measure"/> in a process of its own.</param>
    public static IReadOnlyList<BenchmarkRow> Run(ModelFolder folder, Func<KernelSet, MemoryUse> inFreshProcess)
    {
        MemoryUse stock = inFreshProcess(KernelSet.Stock);
        MemoryUse ours = inFreshProcess(KernelSet.BatchInvariant);
        return [Row("loaded", stock.Loaded, ours.Loaded), Row($"after {NewTokens(folder)} tokens", stock.Generated, ours.Generated)];

        BenchmarkRow Row(string when, long peer, long own) => new()
        {
            Subject = "memory",
            Op = folder.Name,
            Shape = when,
            Dtype = folder.Name,
            Rows = 1,
            Peer = BenchmarkRow.StockPeer,
            PeerMegabytes = Math.Round(peer / 1e6),
            Megabytes = Math.Round(own / 1e6),
            Ratio = Math.Round((double)peer / own, 3),
        };
    }

    private static int NewTokens(ModelFolder folder) => Math.Min(MostTokens, folder.ContextLength - GenerationBenchmark.PromptTokens);

    private static long Peak()
    {
        using Process process = Process.GetCurrentProcess();
        return process.PeakWorkingSet64;
    }
}
