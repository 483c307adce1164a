using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;
using OrtBatchInvariant.Verification.Tests.Support;

namespace OrtBatchInvariant.Verification.Tests;

/// <summary>The assertion that other people's tests call.</summary>
public sealed class BatchInvarianceTests(SmallModels models) : IClassFixture<SmallModels>
{
    private static readonly AuditOptions s_few = new() { IsQuick = true, MaxRows = 3, NewTokens = 3, PromptTokens = 20 };

    [Fact]
    public async Task BatchInvariantKernelsPass()
    {
        AuditResult result = await BatchInvariance.AssertAsync(models.Export(ExportPrecision.Int4).Path, new BatchInvarianceOptions { Audit = s_few });
        Assert.True(result.Axes.Sum(axis => axis.ElementsCompared) > 100_000);
    }

    [Fact]
    public async Task StockKernelsFailWithTheNode()
    {
        var options = new BatchInvarianceOptions { Audit = s_few, Decoder = new DecoderModelOptions { Kernels = KernelSet.Stock } };
        BatchInvarianceException exception = await Assert.ThrowsAsync<BatchInvarianceException>(
            () => BatchInvariance.AssertAsync(models.Export(ExportPrecision.Int4).Path, options));

        Assert.All(
            ["with cpu kernels", "prefill against decode", "/model/layers.0/attn/qkv_proj/MatMul_Q4", "MatMulNBits", "CPUExecutionProvider", "ulp"],
            part => Assert.Contains(part, exception.Message, StringComparison.Ordinal));
        Assert.DoesNotContain('\n', exception.Message);
        Assert.True(exception.Result.Blame!.Introducing.Count > 0);
    }

    [Fact]
    public async Task NothingComparedIsNoPass()
    {
        var options = new BatchInvarianceOptions { Audit = s_few with { Axes = AuditAxis.Parse(["fresh-process"]) } };
        VerificationException exception = await Assert.ThrowsAsync<VerificationException>(
            () => BatchInvariance.AssertAsync(models.Export(ExportPrecision.Int4).Path, options));
        Assert.Contains("nothing was compared", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task StoppingIsNoPass()
    {
        using var stop = new CancellationTokenSource();
        stop.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => BatchInvariance.AssertAsync(models.Export(ExportPrecision.Int4).Path, cancellation: stop.Token));
    }
}
