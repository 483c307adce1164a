using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;
using OrtBatchInvariant.Verification.Tests.Support;

namespace OrtBatchInvariant.Verification.Tests.Audit;

/// <summary>Audits on the CPU; <c>scripts/gpu-check.sh</c> runs the same on a GPU.</summary>
public sealed class InvarianceAuditTests(SmallModels models) : IClassFixture<SmallModels>
{
    private static readonly string[] s_notHere = ["cuda-graph", "sessions", "fresh-process"];

    [Theory]
    [InlineData(ExportPrecision.Fp32)]
    [InlineData(ExportPrecision.Int4)]
    public void NoAxisChangesAByte(ExportPrecision precision)
    {
        AuditResult result = Run(precision, KernelSet.BatchInvariant);

        Assert.Equal(s_notHere, result.Axes.Where(axis => axis.ElementsCompared == 0).Select(axis => axis.Id));
        Assert.All(result.Axes.Where(axis => !s_notHere.Contains(axis.Id)), axis => Assert.True(axis.IsInvariant && axis.NotRun is null, axis.ToString()));
        Assert.All(result.Axes.SelectMany(axis => axis.BatchSizes), size => Assert.Equal((1, 1), (size.DistinctLogits, size.DistinctTexts)));
        Assert.True(result.Axes.Sum(axis => axis.ElementsCompared) > 1_000_000);
        Assert.Null(result.Blame);
        Assert.Contains(result.Subject.Contracts, contract => contract.StartsWith("gemm.", StringComparison.Ordinal));
    }

    // MatMulNBits without int8 activations takes another path for one row, and attention another for one token.
    [Fact]
    public void StockKernelsFailAndAreNamed()
    {
        AuditResult result = Run(ExportPrecision.Int4, KernelSet.Stock);

        AuditAxisResult axis = Assert.Single(result.Axes, axis => axis.Id == "prefill-decode");
        Assert.True(axis.Varies && axis.MaxUlp > 0 && axis.MaxLogitDifference > 0);
        Assert.Contains(result.Axes.Single(other => other.Id == "chunked-prefill").BatchSizes, size => size.DistinctLogits > 1);
        BlameResult blame = result.Blame!;
        Assert.Equal(("MatMulNBits", "CPUExecutionProvider"), (blame.First!.Op, blame.First.Provider));
        Assert.Equal("/model/layers.0/attn/qkv_proj/MatMul_Q4", blame.First.Name);
        Assert.Contains("float[1,1,128]", blame.First.Shapes, StringComparison.Ordinal);
        Assert.Equal(["GroupQueryAttention", "MatMulNBits"], blame.Introducing.Select(node => node.Op).Distinct().Order());
        Assert.All(blame.Introducing, node => Assert.True(node.ElementsDifferent > 0 && node.RelativeDifference > 0));
        Assert.Equal(blame.Introducing.OrderByDescending(node => node.RelativeDifference), blame.Introducing);
        Assert.True(blame.NodesExamined > blame.Introducing.Count);
        Assert.Null(blame.Note);
    }

    // MatMulNBits looks at the number of rows and at nothing else that these axes change, attention at the length of the run.
    [Fact]
    public void WhatAnAxisDoesByItselfIsToldFromTheNumberOfRows()
    {
        AuditResult result = Run(
            ExportPrecision.Int4, KernelSet.Stock, Quick with { Axes = AuditAxis.Parse(["batch-size", "row-position", "neighbours", "prefill-decode", "repeats"]) });

        foreach (string id in (string[])["row-position", "neighbours", "repeats"])
        {
            AuditAxisResult axis = result.Axes.Single(axis => axis.Id == id);
            Assert.True(axis is { ElementsDifferent: > 0, BaselineDifferent: 0 }, axis.ToString());
        }

        Assert.All(["batch-size", "prefill-decode"], id => Assert.Single(result.Axes, axis => axis.Id == id && axis.BaselineDifferent == axis.ElementsDifferent && axis.Varies));

        // Nodes are looked for where an axis does something itself, and each has its own.
        Assert.Equal(["batch-size", "prefill-decode"], result.Blames.Select(blame => blame.AxisId));
        Assert.Equal(["MatMulNBits"], result.Blames[0].Introducing.Select(node => node.Op).Distinct());
        Assert.Contains(result.Blames[1].Introducing, node => node.Op == "GroupQueryAttention");
        Assert.All(result.Blames, blame => Assert.True(blame is { First: not null, Note: null, Against: "the text alone" }, blame.ToString()));
    }

    // Without the axis of batch sizes an axis answers for the number of rows as well.
    [Fact]
    public void AnAxisByItselfIsBlamedForItsRows()
    {
        AuditResult result = Run(ExportPrecision.Int4, KernelSet.Stock, Quick with { Axes = AuditAxis.Parse(["neighbours"]) });
        Assert.Equal("MatMulNBits", Assert.Single(result.Blames).First!.Op);
    }

    [Fact]
    public void BlameEndsInTime()
    {
        AuditResult result = Run(ExportPrecision.Int4, KernelSet.Stock, Quick with { Axes = AuditAxis.Parse(["prefill-decode"]), BlameTime = TimeSpan.Zero });
        Assert.True(result.IsComplete);
        Assert.Contains("were left unexamined", Assert.Single(result.Blames).Note, StringComparison.Ordinal);
    }

    // A limit of memory that holds a few nodes at a time names the same nodes.
    [Fact]
    public void SlicesNameTheSameNodes()
    {
        AuditOptions options = Quick with { Axes = AuditAxis.Parse(["prefill-decode"]) };
        BlameResult whole = Run(ExportPrecision.Int4, KernelSet.Stock, options).Blame!;
        BlameResult slices = Run(ExportPrecision.Int4, KernelSet.Stock, options with { BlameBytes = 3 << 20 }).Blame!;

        Assert.Equal(whole.First, slices.First);
        Assert.Equal(whole.Introducing, slices.Introducing);
        Assert.Equal(whole.Nodes, slices.Nodes);
    }

    [Fact]
    public void ABareDecoderIsAuditedAsWell()
    {
        string file = Path.Combine(models.Export(ExportPrecision.Fp32).Path, "model.onnx");
        AuditResult result = InvarianceAudit.Run(
            ModelFolder.OpenDecoder(file), new DecoderModelOptions { Kernels = KernelSet.Stock }, Quick with { Axes = AuditAxis.Parse(["prefill-decode", "padding"]) });

        Assert.Equal("model", result.Subject.Model);
        Assert.All(result.Axes, axis => Assert.True(axis.ElementsCompared > 0));
        Assert.Contains(result.Blame!.Introducing, node => node.Op == "GroupQueryAttention");
    }

    [Fact]
    public void StoppingLeavesWhatThereIs()
    {
        using var stop = new CancellationTokenSource();
        AuditResult result = InvarianceAudit.Run(
            models.Export(ExportPrecision.Fp32), new DecoderModelOptions(), Quick, axisDone: _ => stop.Cancel(), cancellation: stop.Token);

        Assert.False(result.IsComplete);
        Assert.Equal(2, result.Axes.Count);
        Assert.Equal("stopped", result.Axes[1].NotRun);
    }

    [Fact]
    public void WhatCannotBeAuditedIsRefused()
    {
        ModelFolder folder = models.Export(ExportPrecision.Fp32);

        Assert.Contains("no axis 'colour'", Assert.Throws<VerificationException>(() => AuditAxis.Parse(["colour"])).Message, StringComparison.Ordinal);
        Assert.Contains("exceed the context of 512", Refused(Quick with { PromptTokens = 600 }), StringComparison.Ordinal);
        Assert.Contains("token 512", Refused(Quick with { Prompt = [1, 512] }), StringComparison.Ordinal);

        string Refused(AuditOptions options) => Assert.Throws<VerificationException>(() => InvarianceAudit.Run(folder, new DecoderModelOptions(), options)).Message;
    }

    private static AuditOptions Quick => new() { IsQuick = true, MaxRows = 5, NewTokens = 5 };

    private AuditResult Run(ExportPrecision precision, KernelSet kernels, AuditOptions? options = null) =>
        InvarianceAudit.Run(models.Export(precision), new DecoderModelOptions { Kernels = kernels }, options ?? Quick);
}
