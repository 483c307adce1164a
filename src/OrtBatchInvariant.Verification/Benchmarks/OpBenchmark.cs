using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>Times operators one by one, stock and batch-invariant by turns, each as a session of one node.</summary>
public static class OpBenchmark
{
    /// <summary>The names of the operators.</summary>
    public static IReadOnlyList<string> Operators { get; } = [.. OpCases.All(large: false).Select(opCase => opCase.Op).Distinct()];

    /// <summary>Runs the operators.</summary>
    /// <param name="peaks">What the machine can do.</param>
    /// <param name="threads">The number of threads that an operator may use.</param>
    /// <param name="operators">Which to run, of <see cref="Operators"/>; all where it is empty.</param>
    /// <param name="cellTime">About how long to measure one operator with one number of rows.</param>
    /// <param name="large">Whether to add the largest weights.</param>
    /// <param name="progress">Told before each case: cases done, cases in all, and the case's name.</param>
    /// <param name="cancellation">Stops between two measurements.</param>
    /// <exception cref="VerificationException">ONNX Runtime or the provider refused a model.</exception>
    public static IReadOnlyList<BenchmarkRow> Run(
        MachinePeaks peaks,
        int threads,
        IReadOnlyCollection<string> operators,
        TimeSpan cellTime,
        bool large,
        IProgress<(int Done, int Total, string Name)>? progress = null,
        CancellationToken cancellation = default)
    {
        OnnxRuntimeLibrary.LoadFirst();
        List<OpCase> cases = [.. OpCases.All(large).Where(opCase => operators.Count == 0 || operators.Contains(opCase.Op))];
        var rows = new List<BenchmarkRow>();
        for (int i = 0; i < cases.Count; i++)
        {
            progress?.Report((i, cases.Count, $"{cases[i].Op} {cases[i].Shape}"));
            rows.AddRange(Run(cases[i], peaks, threads, cellTime, cancellation));
        }

        return rows;
    }

    private static List<BenchmarkRow> Run(OpCase opCase, MachinePeaks peaks, int threads, TimeSpan cellTime, CancellationToken cancellation)
    {
        try
        {
            byte[] model = opCase.Model();
            using InferenceSession stock = Session(model, threads, batchInvariant: false);
            using InferenceSession ours = Session(model, threads, batchInvariant: true);
            using var options = new RunOptions();
            var rows = new List<BenchmarkRow>();
            foreach (OpRun run in opCase.Runs)
            {
                cancellation.ThrowIfCancellationRequested();
                using OpValues stockValues = run.Values();
                using OpValues ourValues = run.Values();
                (double peer, double own) = AlternatingTimer.Medians(
                    () => stockValues.Run(stock, options), () => ourValues.Run(ours, options), cellTime);
                rows.Add(new BenchmarkRow
                {
                    Subject = "op",
                    Op = opCase.Op,
                    Shape = opCase.Shape,
                    Dtype = opCase.Dtype,
                    Rows = run.Rows,
                    Peer = BenchmarkRow.StockPeer,
                    PeerMicroseconds = Math.Round(peer, 2),
                    Microseconds = Math.Round(own, 2),
                    FloorMicroseconds = Math.Round(peaks.FloorMicroseconds(run.Flops, run.Bytes), 3),
                    Ratio = Math.Round(peer / own, 3),
                });
            }

            return rows;
        }
        catch (OnnxRuntimeException exception)
        {
            throw new VerificationException($"{opCase.Op} ({opCase.Shape}, {opCase.Dtype}) cannot be run ({HostedModel.OneLine(exception)}).", exception);
        }
    }

    private static InferenceSession Session(byte[] model, int threads, bool batchInvariant)
    {
        using var options = new SessionOptions { IntraOpNumThreads = threads };

        // The threads of a session go on spinning for a while after a run, on the cores that the other session then wants.
        options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0");
        if (batchInvariant)
        {
            options.AppendBatchInvariant();
        }

        return new InferenceSession(model, options);
    }
}
