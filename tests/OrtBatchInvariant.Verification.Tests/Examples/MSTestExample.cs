namespace OrtBatchInvariant.Verification.Tests.Examples;

/// <summary>How a model's test looks with MSTest.</summary>
[Microsoft.VisualStudio.TestTools.UnitTesting.TestClass]
public sealed class MSTestExample(string model, BatchInvarianceOptions? options)
{
    public MSTestExample()
        : this("path/to/model", null)
    {
    }

    [Microsoft.VisualStudio.TestTools.UnitTesting.TestMethod]
    public async Task AnswersDoNotDependOnTheBatch() => await BatchInvariance.AssertAsync(model, options);
}
