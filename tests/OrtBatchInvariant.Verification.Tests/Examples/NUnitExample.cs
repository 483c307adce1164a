namespace OrtBatchInvariant.Verification.Tests.Examples;

/// <summary>How a model's test looks with NUnit.</summary>
[NUnit.Framework.TestFixture]
public sealed class NUnitExample(string model, BatchInvarianceOptions? options)
{
    public NUnitExample()
        : this("path/to/model", null)
    {
    }

    [NUnit.Framework.Test]
    [NUnit.Framework.CancelAfter(600_000)]
    public async Task AnswersDoNotDependOnTheBatch(CancellationToken cancellation) => await BatchInvariance.AssertAsync(model, options, cancellation);
}
