using System.Diagnostics;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>Times two actions by turns, so that a machine that slows down slows both.</summary>
internal static class AlternatingTimer
{
    private const int MinSamples = 5;
    private const int MaxSamples = 200;

    // Long enough to be seen by the clock, short enough for many samples.
    private static readonly TimeSpan s_sample = TimeSpan.FromMilliseconds(0.5);

    /// <summary>The median time of one call of each, in microseconds.</summary>
    /// <param name="one">The first action.</param>
    /// <param name="other">The second action.</param>
    /// <param name="budget">About how long to measure both together.</param>
    public static (double One, double Other) Medians(Action one, Action other, TimeSpan budget)
    {
        one();
        other();
        int repeats = Math.Max(Repeats(one), Repeats(other));
        var ones = new List<double>();
        var others = new List<double>();
        long begin = Stopwatch.GetTimestamp();
        while (ones.Count < MinSamples || (ones.Count < MaxSamples && Stopwatch.GetElapsedTime(begin) < budget))
        {
            ones.Add(Sample(one, repeats));
            others.Add(Sample(other, repeats));
        }

        return (Median(ones), Median(others));
    }

    public static double Median(List<double> values)
    {
        values.Sort();
        int half = values.Count / 2;
        return values.Count % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
    }

    private static int Repeats(Action action) =>
        (int)Math.Clamp(s_sample.TotalMicroseconds / Math.Max(Sample(action, 1), 0.1), 1, 1000);

    private static double Sample(Action action, int repeats)
    {
        long begin = Stopwatch.GetTimestamp();
        for (int i = 0; i < repeats; i++)
        {
            action();
        }

        return Stopwatch.GetElapsedTime(begin).TotalMicroseconds / repeats;
    }
}
