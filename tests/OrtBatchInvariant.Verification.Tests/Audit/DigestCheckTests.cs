using OrtBatchInvariant.Verification.Audit;

namespace OrtBatchInvariant.Verification.Tests.Audit;

public sealed class DigestCheckTests
{
    /// <summary>Only digests are cut short, whatever the length of what else changed.</summary>
    [Fact]
    public void SaysInFullWhatChanged()
    {
        const string Contracts = "attention.f32.v2 elementwise.f32.v2 gemm.nbits.s8.v1 norm.f32.v1";
        string digest = new('a', 64);
        Assert.Equal(64, Contracts.Length);

        string text = new DigestCheck(3, 1, 2, [new SubjectChange("contracts", "", Contracts), new SubjectChange("model", digest, digest)]).ToString();

        Assert.Contains($"contracts, none then, {Contracts} now", text, StringComparison.Ordinal);
        Assert.Contains("model, aaaaaaaaaaaa then", text, StringComparison.Ordinal);
        Assert.DoesNotContain(digest, text, StringComparison.Ordinal);
    }
}
