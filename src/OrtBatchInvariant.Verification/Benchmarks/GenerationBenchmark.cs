using System.Diagnostics;
using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Verification.Completions;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>Times whole models through GenAI's loop, stock and batch-invariant by turns.</summary>
public static class GenerationBenchmark
{
    internal const int PromptTokens = 32;
    private const int NewTokens = 64;
    private const int Rounds = 5;

    /// <summary>Runs a model.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="threads">The number of threads that an operator may use.</param>
    /// <param name="batches">The batch sizes.</param>
    /// <param name="progress">Told before each run: runs done and runs in all.</param>
    /// <param name="cancellation">Stops between two runs.</param>
    /// <returns>Tokens per second of all sequences of the batch together, of the decode steps alone.</returns>
    /// <exception cref="VerificationException">The model cannot be loaded or run.</exception>
    public static IReadOnlyList<BenchmarkRow> Run(
        ModelFolder folder, int threads, IReadOnlyList<int> batches, IProgress<(int Done, int Total)>? progress = null, CancellationToken cancellation = default)
    {
        using HostedModel stock = HostedModel.Load(folder, new HostOptions { Kernels = KernelSet.Stock, Threads = threads });
        using HostedModel ours = HostedModel.Load(folder, new HostOptions { Kernels = KernelSet.BatchInvariant, Threads = threads });
        var rows = new List<BenchmarkRow>();
        for (int i = 0; i < batches.Count; i++)
        {
            var peerRates = new List<double>();
            var rates = new List<double>();
            TokensPerSecond(stock, batches[i], NewTokens);
            TokensPerSecond(ours, batches[i], NewTokens);
            for (int round = 0; round < Rounds; round++)
            {
                cancellation.ThrowIfCancellationRequested();
                progress?.Report(((i * Rounds) + round, batches.Count * Rounds));
                peerRates.Add(TokensPerSecond(stock, batches[i], NewTokens));
                rates.Add(TokensPerSecond(ours, batches[i], NewTokens));
            }

            double peer = AlternatingTimer.Median(peerRates);
            double own = AlternatingTimer.Median(rates);
            rows.Add(new BenchmarkRow
            {
                Subject = "generate",
                Op = folder.Name,
                Shape = $"{NewTokens} tokens after {PromptTokens}",
                Dtype = folder.Name,
                Rows = batches[i],
                Peer = BenchmarkRow.StockPeer,
                PeerTokensPerSecond = Math.Round(peer, 1),
                TokensPerSecond = Math.Round(own, 1),
                Ratio = Math.Round(own / peer, 3),
            });
        }

        return rows;
    }

    /// <summary>Generates tokens for some sequences after prompts of random tokens; the rate is that of the decode steps.</summary>
    internal static double TokensPerSecond(HostedModel model, int batch, int newTokens)
    {
        double rate = 0;
        Generate(model, batch, PromptTokens, newTokens, generator =>
        {
            long begin = Stopwatch.GetTimestamp();
            int steps = 0;
            while (!generator.IsDone())
            {
                generator.GenerateNextToken();
                steps++;
            }

            rate = batch * steps / Stopwatch.GetElapsedTime(begin).TotalSeconds;
        });
        return rate;
    }

    /// <summary>Generates the first token after prompts of random tokens, then does what follows.</summary>
    internal static void Generate(HostedModel model, int batch, int promptTokens, int newTokens, Action<Generator> afterFirst)
    {
        try
        {
            int[] tokens = RandomTokens.Draw(model.Folder, batch * promptTokens, new Random(batch));
            using var parameters = new GeneratorParams(model.Model);
            parameters.SetSearchOption("batch_size", batch);
            parameters.SetSearchOption("max_length", promptTokens + newTokens);

            // No row ends early.
            parameters.SetSearchOption("min_length", promptTokens + newTokens);
            parameters.SetSearchOption("do_sample", false);
            using var generator = new Generator(model.Model, parameters);
            generator.AppendTokens(tokens);
            generator.GenerateNextToken();
            afterFirst(generator);
        }
        catch (OnnxRuntimeGenAIException exception)
        {
            throw new VerificationException($"{model.Folder.Path}: generation failed ({HostedModel.OneLine(exception)}).", exception);
        }
    }
}
