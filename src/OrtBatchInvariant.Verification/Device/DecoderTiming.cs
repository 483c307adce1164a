using System.Diagnostics;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>Times the runs of a decoder: everything but choosing tokens. Numbers are medians.</summary>
public static class DecoderTiming
{
    /// <summary>Opens a decode step for timing: one token a row after a past of random keys and values.</summary>
    /// <param name="model">The model.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="past">Tokens before the step.</param>
    public static TimedRun DecodeStep(DecoderModel model, int rows, int past)
    {
        // As long a KV buffer as a conversation needs that goes on.
        var batch = new DecoderBatch(model, rows, past + 64);
        try
        {
            batch.Pretend(past, seed: 5);
            return new TimedRun(batch, batch.RepeatableStep(RandomTokens(model, rows, seed: 6)));
        }
        catch
        {
            batch.Dispose();
            throw;
        }
    }

    /// <summary>Opens a prefill for timing.</summary>
    /// <param name="model">The model.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="tokens">Tokens of each row.</param>
    public static TimedRun Prefill(DecoderModel model, int rows, int tokens)
    {
        var batch = new DecoderBatch(model, rows, tokens + 64);
        int[][] prompts = [.. Enumerable.Range(0, rows).Select(row => RandomTokens(model, tokens, seed: 7 + row))];
        return new TimedRun(batch, () =>
        {
            batch.Pretend(0);
            batch.AppendUnread(prompts);
        });
    }

    private static int[] RandomTokens(DecoderModel model, int count, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(model.Shape.VocabularySize))];
    }
}

/// <summary>A run that can be repeated for timing.</summary>
public sealed class TimedRun : IDisposable
{
    private readonly IDisposable _owned;
    private readonly Action _run;
    private readonly List<double> _microseconds = [];

    // `owned` is disposed of with the run.
    internal TimedRun(IDisposable owned, Action run)
    {
        _owned = owned;
        _run = run;
    }

    /// <summary>The median of all measured runs, in microseconds.</summary>
    public double Microseconds
    {
        get
        {
            double[] sorted = [.. _microseconds.Order()];
            int half = sorted.Length / 2;
            return sorted.Length % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
        }
    }

    /// <summary>Runs without measuring: kernels are loaded and graphs captured.</summary>
    /// <param name="count">Number of runs.</param>
    public void WarmUp(int count)
    {
        for (int i = 0; i < count; i++)
        {
            _run();
        }
    }

    /// <summary>Runs and measures each run.</summary>
    /// <param name="count">Number of runs.</param>
    public void Measure(int count)
    {
        for (int i = 0; i < count; i++)
        {
            long start = Stopwatch.GetTimestamp();
            _run();
            _microseconds.Add(Stopwatch.GetElapsedTime(start).TotalMicroseconds);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _owned.Dispose();
}
