using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;
using OrtBatchInvariant.Verification.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Verification.Tests.Audit;

/// <summary>Decoders with other inputs and outputs: what can be varied is, and of the rest the report says why not.</summary>
public sealed class OtherGraphsTests(SmallModels models, ITestOutputHelper output) : IClassFixture<SmallModels>
{
    private static readonly AuditOptions s_quick = new() { IsQuick = true, MaxRows = 5, NewTokens = 4, PromptTokens = 30 };

    [Theory]
    [InlineData(KernelSet.BatchInvariant)]
    [InlineData(KernelSet.Stock)]
    public void ACacheThatGrows(KernelSet kernels)
    {
        AuditResult result = Audit(GraphVariants.GrowingCache(Fp32), kernels);

        AssertNotRun(result, "grows with every step", ["kv-buffer", "fixed-shapes"]);
        AssertInvariance(result, kernels);
        if (kernels == KernelSet.Stock)
        {
            Assert.Equal(["GroupQueryAttention"], result.Blames.SelectMany(blame => blame.Introducing).Select(node => node.Op).Distinct());
        }
    }

    [Theory]
    [InlineData(KernelSet.BatchInvariant)]
    [InlineData(KernelSet.Stock)]
    public void NoCache(KernelSet kernels)
    {
        AuditResult result = Audit(GraphVariants.NoCache(Int4), kernels);

        AssertNotRun(result, "the model has no KV cache", ["chunked-prefill", "speculation", "kv-buffer", "fixed-shapes"]);
        AssertInvariance(result, kernels);
        if (kernels == KernelSet.Stock)
        {
            Assert.Contains(result.Blames.SelectMany(blame => blame.Introducing), node => node.Op == "MatMulNBits");
        }
    }

    [Fact]
    public void PositionsInsteadOfAMask()
    {
        AuditResult result = Audit(GraphVariants.PositionsInsteadOfMask(Fp32), KernelSet.BatchInvariant);

        AssertNotRun(result, "takes no attention mask", ["padding"]);
        AssertInvariance(result, KernelSet.BatchInvariant);
    }

    [Fact]
    public void Int32Inputs() => AssertInvariance(Audit(GraphVariants.Int32Inputs(Fp32), KernelSet.BatchInvariant), KernelSet.BatchInvariant);

    /// <summary>The logits of a variant are those of the graph that it was made from, byte for byte, however it is given its text.</summary>
    [Theory]
    [InlineData("growing")]
    [InlineData("no-cache")]
    [InlineData("int32")]
    [InlineData("positions")]
    public void LogitsAreThoseOfTheOriginal(string variant)
    {
        ModelFolder folder = variant switch
        {
            "growing" => GraphVariants.GrowingCache(Fp32),
            "no-cache" => GraphVariants.NoCache(Fp32),
            "int32" => GraphVariants.Int32Inputs(Fp32),
            _ => GraphVariants.PositionsInsteadOfMask(Fp32),
        };
        byte[] expected = Logits(Fp32);
        byte[] actual = Logits(folder);
        Assert.True(expected.Length > 10_000);
        Assert.True(expected.AsSpan().SequenceEqual(actual), $"{expected.Length} bytes compared");
    }

    [Fact]
    public void CompletionsComeInBatches()
    {
        foreach (ModelFolder folder in (ModelFolder[])[GraphVariants.GrowingCache(Int4), GraphVariants.NoCache(Int4)])
        {
            using DecoderModel model = DecoderModel.Open(folder);
            var options = new ServingOptions { Prompt = [7, 3, 9, 11, 4], Completions = 20, NewTokens = 5, MaxRows = 6, Arrivals = Arrivals.Batches };
            ServingResult result = ServingExperiment.Run(model, options);

            Assert.True(result is { IsInvariant: true, IsComplete: true, LargestBatch: > 3 }, result.ToString());
            Assert.Contains("--arrivals batches", Assert.Throws<VerificationException>(() => ServingExperiment.Run(model, options with { Arrivals = Arrivals.Poisson })).Message, StringComparison.Ordinal);
        }
    }

    private ModelFolder Fp32 => models.Export(ExportPrecision.Fp32);

    private ModelFolder Int4 => models.Export(ExportPrecision.Int4);

    private static byte[] Logits(ModelFolder folder)
    {
        using DecoderModel model = DecoderModel.Open(folder);
        using var batch = new DecoderBatch(model, 2, 12, poisons: true);
        var bytes = new List<byte>();
        using (BatchLogits prompt = batch.Append([[5, 4, 3, 2], [9, 8, 7, 6]]))
        {
            bytes.AddRange(prompt.Bytes(1, 3));
        }

        foreach (int token in (int[])[11, 12, 13])
        {
            using BatchLogits step = batch.Append([[token], [token + 20]]);
            bytes.AddRange(step.Bytes(0, 0));
            bytes.AddRange(step.Bytes(1, 0));
        }

        return [.. bytes];
    }

    private AuditResult Audit(ModelFolder folder, KernelSet kernels)
    {
        AuditResult result = InvarianceAudit.Run(folder, new DecoderModelOptions { Kernels = kernels }, s_quick);
        foreach (AuditAxisResult axis in result.Axes)
        {
            output.WriteLine($"{axis.Id}: {axis.ElementsDifferent} of {axis.ElementsCompared}, {axis.BaselineDifferent} by itself; {axis.NotRun}");
        }

        foreach (BlameResult blame in result.Blames)
        {
            output.WriteLine($"{blame.AxisId}: {AuditMessage.Blame(blame)} {blame.Note}");
        }

        return result;
    }

    private static void AssertNotRun(AuditResult result, string reason, string[] axes) =>
        Assert.All(axes, id => Assert.Contains(reason, result.Axes.Single(axis => axis.Id == id).NotRun, StringComparison.Ordinal));

    private static void AssertInvariance(AuditResult result, KernelSet kernels)
    {
        Assert.True(result.IsComplete);
        Assert.Equal(kernels == KernelSet.BatchInvariant, result.IsInvariant);
        Assert.All(result.Axes, axis => Assert.True(axis.ElementsCompared > 0 || axis.NotRun is { Length: > 10 }, axis.ToString()));
        Assert.True(result.Axes.Count(axis => axis.ElementsCompared > 0) >= 7);
    }
}
