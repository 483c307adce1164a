using System.Diagnostics;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>Times how long a prompt takes to its first token, stock and batch-invariant by turns.</summary>
public static class PromptBenchmark
{
    private const int Rounds = 3;

    /// <summary>Runs a model with one sequence.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="threads">The number of threads that an operator may use.</param>
    /// <param name="prompts">The lengths of prompts, in tokens; those that the model's context has no room for are left out.</param>
    /// <param name="progress">Told before each run: runs done and runs in all.</param>
    /// <param name="cancellation">Stops between two runs.</param>
    /// <returns>The time to the first token, and the tokens of the prompt per second of it.</returns>
    /// <exception cref="VerificationException">The model cannot be loaded or run.</exception>
    public static IReadOnlyList<BenchmarkRow> Run(
        ModelFolder folder, int threads, IReadOnlyList<int> prompts, IProgress<(int Done, int Total)>? progress = null, CancellationToken cancellation = default)
    {
        using HostedModel stock = HostedModel.Load(folder, new HostOptions { Kernels = KernelSet.Stock, Threads = threads });
        using HostedModel ours = HostedModel.Load(folder, new HostOptions { Kernels = KernelSet.BatchInvariant, Threads = threads });
        var rows = new List<BenchmarkRow>();
        List<int> fitting = [.. prompts.Where(prompt => prompt < folder.ContextLength)];
        for (int i = 0; i < fitting.Count; i++)
        {
            var peerTimes = new List<double>();
            var times = new List<double>();
            for (int round = 0; round < Rounds; round++)
            {
                cancellation.ThrowIfCancellationRequested();
                progress?.Report(((i * Rounds) + round, fitting.Count * Rounds));
                peerTimes.Add(FirstToken(stock, fitting[i]).TotalMicroseconds);
                times.Add(FirstToken(ours, fitting[i]).TotalMicroseconds);
            }

            double peer = AlternatingTimer.Median(peerTimes);
            double own = AlternatingTimer.Median(times);
            rows.Add(new BenchmarkRow
            {
                Subject = "prompt",
                Op = folder.Name,
                Shape = $"first token after {fitting[i]}",
                Dtype = folder.Name,
                Rows = fitting[i],
                Peer = BenchmarkRow.StockPeer,
                PeerMicroseconds = Math.Round(peer),
                Microseconds = Math.Round(own),
                PeerTokensPerSecond = Math.Round(fitting[i] / peer * 1e6, 1),
                TokensPerSecond = Math.Round(fitting[i] / own * 1e6, 1),
                Ratio = Math.Round(peer / own, 3),
            });
        }

        return rows;
    }

    private static TimeSpan FirstToken(HostedModel model, int prompt)
    {
        long begin = Stopwatch.GetTimestamp();
        GenerationBenchmark.Generate(model, batch: 1, prompt, newTokens: 1, _ => { });
        return Stopwatch.GetElapsedTime(begin);
    }
}
