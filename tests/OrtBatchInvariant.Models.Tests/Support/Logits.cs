using Xunit.Abstractions;

namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>Comparisons of logits.</summary>
internal static class Logits
{
    /// <summary>No logit may differ by more than a part of the largest one.</summary>
    public static void AssertClose(double[][] expected, double[][] actual, double tolerance, ITestOutputHelper output)
    {
        Assert.Equal(expected.Length, actual.Length);
        var largest = expected.SelectMany(row => row).Max(Math.Abs);
        var (compared, worst) = (0, 0.0);
        for (var t = 0; t < expected.Length; t++)
        {
            Assert.Equal(expected[t].Length, actual[t].Length);
            for (var v = 0; v < expected[t].Length; v++)
            {
                var error = Math.Abs(expected[t][v] - actual[t][v]) / largest;
                Assert.False(double.IsNaN(error), $"token {t}, logit {v}: NaN");
                worst = Math.Max(worst, error);
                compared++;
            }
        }

        output.WriteLine($"{compared} logits compared; largest error {worst:E2} of the largest logit");
        Assert.NotEqual(0, compared);
        Assert.InRange(worst, 0, tolerance);
    }

    /// <summary>The same by a prefill and single tokens: caches and positions.</summary>
    public static double[][] ByPrefillAndSteps(OnnxRunner runner, IReadOnlyList<int> tokens, int prefill)
    {
        runner.Reset();
        return [.. runner.Append([.. tokens.Take(prefill)]), .. tokens.Skip(prefill).Select(token => runner.Append([token])[0])];
    }
}
