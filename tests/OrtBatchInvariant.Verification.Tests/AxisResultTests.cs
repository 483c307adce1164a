using OrtBatchInvariant.Verification.Completions;
using OrtBatchInvariant.Verification.Experiments;

namespace OrtBatchInvariant.Verification.Tests;

public sealed class AxisResultTests
{
    [Fact]
    public void CountsPerPromptAndTheWorstPromptCounts()
    {
        var result = AxisResult.From("axis", "axis", [Make(0, "a", 1), Make(0, "a", 1), Make(1, "b", 1), Make(1, "c", 1), Make(1, "d", 2)]);
        Assert.Equal((5, 3, 2), (result.Completions, result.UniqueLogits, result.UniqueCompletions));
    }

    [Fact]
    public void NothingToCompareIsAFailure()
    {
        Assert.Throws<VerificationException>(() => AxisResult.From("axis", "axis", []));
        Assert.Throws<VerificationException>(() => AxisResult.From("axis", "axis", [Make(0, "a", 1), Make(1, "b", 1)]));
    }

    private static Completion Make(int prompt, string digest, int token) => new(prompt, [token], digest, 1, "alone");
}
