using System.Diagnostics;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>Times how long a model takes to load, its weights packed, stock and batch-invariant by turns.</summary>
public static class LoadBenchmark
{
    private const int Rounds = 5;

    /// <summary>Loads a model.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="threads">The number of threads that an operator may use.</param>
    /// <param name="cancellation">Stops between two runs.</param>
    /// <returns>The time until the model is ready, and until it has made the first token of a short prompt.</returns>
    /// <exception cref="VerificationException">The model cannot be loaded or run.</exception>
    public static IReadOnlyList<BenchmarkRow> Run(ModelFolder folder, int threads, CancellationToken cancellation = default)
    {
        // The first load reads the files from the disk.
        Time(folder, KernelSet.Stock, threads);
        var peers = new List<(double Ready, double Token)>();
        var owns = new List<(double Ready, double Token)>();
        for (int round = 0; round < Rounds; round++)
        {
            cancellation.ThrowIfCancellationRequested();
            peers.Add(Time(folder, KernelSet.Stock, threads));
            owns.Add(Time(folder, KernelSet.BatchInvariant, threads));
        }

        return
        [
            Row("until loaded", times => times.Ready),
            Row($"until the first token after {GenerationBenchmark.PromptTokens}", times => times.Token),
        ];

        BenchmarkRow Row(string until, Func<(double Ready, double Token), double> of)
        {
            double peer = AlternatingTimer.Median([.. peers.Select(of)]);
            double own = AlternatingTimer.Median([.. owns.Select(of)]);
            return new BenchmarkRow
            {
                Subject = "load",
                Op = folder.Name,
                Shape = until,
                Dtype = folder.Name,
                Rows = 1,
                Peer = BenchmarkRow.StockPeer,
                PeerMicroseconds = Math.Round(peer),
                Microseconds = Math.Round(own),
                Ratio = Math.Round(peer / own, 3),
            };
        }
    }

    private static (double Ready, double Token) Time(ModelFolder folder, KernelSet kernels, int threads)
    {
        long begin = Stopwatch.GetTimestamp();
        using HostedModel model = HostedModel.Load(folder, new HostOptions { Kernels = kernels, Threads = threads });
        double ready = Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
        GenerationBenchmark.Generate(model, batch: 1, GenerationBenchmark.PromptTokens, newTokens: 1, _ => { });
        return (ready, Stopwatch.GetElapsedTime(begin).TotalMicroseconds);
    }
}
