using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;
using OrtBatchInvariant.Verification.Tests.Support;

namespace OrtBatchInvariant.Verification.Tests.Examples;

/// <summary>The same assertion in xunit, NUnit and MSTest: the frameworks' attributes around it, and one exception that each of them reports.</summary>
public sealed class FrameworkTests(SmallModels models) : IClassFixture<SmallModels>
{
    private static readonly BatchInvarianceOptions s_stock = new()
    {
        Decoder = new DecoderModelOptions { Kernels = KernelSet.Stock },
        Audit = new AuditOptions { IsQuick = true, MaxRows = 3, NewTokens = 3, PromptTokens = 20, Axes = AuditAxis.Parse(["prefill-decode"]) },
    };

    [Fact]
    public async Task Xunit() => await BatchInvariance.AssertAsync(Model, s_stock with { Decoder = new DecoderModelOptions() });

    [Fact]
    public async Task NUnit() => await new NUnitExample(Model, s_stock with { Decoder = new DecoderModelOptions() }).AnswersDoNotDependOnTheBatch(CancellationToken.None);

    [Fact]
    public async Task MSTest() => await new MSTestExample(Model, s_stock with { Decoder = new DecoderModelOptions() }).AnswersDoNotDependOnTheBatch();

    [Fact]
    public async Task EachFailsOnStockKernels()
    {
        await Assert.ThrowsAsync<BatchInvarianceException>(() => new NUnitExample(Model, s_stock).AnswersDoNotDependOnTheBatch(CancellationToken.None));
        await Assert.ThrowsAsync<BatchInvarianceException>(() => new MSTestExample(Model, s_stock).AnswersDoNotDependOnTheBatch());
    }

    private string Model => models.Export(ExportPrecision.Int4).Path;
}
