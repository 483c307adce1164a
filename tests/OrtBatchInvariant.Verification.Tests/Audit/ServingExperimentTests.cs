using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;
using OrtBatchInvariant.Verification.Tests.Support;

namespace OrtBatchInvariant.Verification.Tests.Audit;

public sealed class ServingExperimentTests(SmallModels models) : IClassFixture<SmallModels>
{
    private static readonly ServingOptions s_options = new() { Prompt = [7, 3, 9, 11, 4], Completions = 40, NewTokens = 6, MaxRows = 9, Seed = 3 };

    [Theory]
    [InlineData(Arrivals.Poisson)]
    [InlineData(Arrivals.Batches)]
    public void OnePromptHasOneCompletion(Arrivals arrivals)
    {
        ServingResult result = Run(KernelSet.BatchInvariant, s_options with { Arrivals = arrivals });

        Assert.True(result.IsInvariant && result.IsComplete, result.ToString());
        Assert.All(result.Decodings, decoding => Assert.Equal((40, 1, 1), (decoding.Completions, decoding.DistinctLogits, decoding.DistinctTexts)));
        Assert.All(result.Decodings, decoding => Assert.Equal(((int?)null, (int?)null), (decoding.FirstDifferentLogits, decoding.FirstDifferentToken)));
        Assert.True(result.Decodings[0].BatchSizes.Count > 2, "requests ran in batches of several sizes");
        Assert.Equal(2L * 40 * 6 * SmallModels.Shape.VocabularySize, result.LogitsCompared);
        Assert.Equal(9, result.LargestBatch);
    }

    [Fact]
    public void StockKernelsGiveSeveralAnswers()
    {
        ServingResult result = Run(KernelSet.Stock, s_options);

        Assert.False(result.IsInvariant);
        Assert.All(result.Decodings, decoding => Assert.True(decoding is { DistinctLogits: > 1, FirstDifferentLogits: not null }, decoding.ToString()));
        Assert.Equal(40, result.Decodings[0].BatchSizes.Sum(size => size.Completions));
    }

    /// <summary>Padding bounds the shapes of runs and changes nothing else: requests come and go as before, and stock kernels still see it.</summary>
    [Theory]
    [InlineData(Arrivals.Poisson)]
    [InlineData(Arrivals.Batches)]
    public void BucketsBoundTheShapes(Arrivals arrivals)
    {
        ServingOptions options = s_options with { Arrivals = arrivals, PadsToBuckets = true, Prompt = [.. Enumerable.Range(3, 30)] };
        ServingResult exact = Run(KernelSet.BatchInvariant, options with { PadsToBuckets = false });
        ServingResult ours = Run(KernelSet.BatchInvariant, options);
        ServingResult stock = Run(KernelSet.Stock, options);

        var buckets = new ShapeBuckets(options.MaxRows, 72);
        Assert.Equal((5, 12), (buckets.StepShapes, buckets.PrefillShapes));
        Assert.All([ours, stock], result => Assert.InRange(result.Shapes, 3, buckets.StepShapes + buckets.PrefillShapes));
        Assert.True(exact.Shapes > 40, $"{exact.Shapes} shapes without buckets");
        Assert.All([ours, stock], result => Assert.True(result is { IsComplete: true, PadsToBuckets: true, LargestBatch: 9 } && result.TimedTokens < result.GeneratedTokens, result.ToString()));
        Assert.All(ours.Decodings.Concat(exact.Decodings), decoding => Assert.Equal((40, 1, 1), (decoding.Completions, decoding.DistinctLogits, decoding.DistinctTexts)));
        Assert.All(stock.Decodings, decoding => Assert.True(decoding is { Completions: 40, DistinctLogits: > 1 }, decoding.ToString()));
        Assert.True(ours.Decodings[0].BatchSizes.Count > 2, "requests ran in batches of several sizes");
    }

    /// <summary>What is prefilled at a time fits, and is one of the shapes.</summary>
    [Fact]
    public void BucketsFit()
    {
        var buckets = new ShapeBuckets(maxRows: 12, capacity: 100);
        for (int room = 1; room <= 12; room++)
        {
            for (int waiting = 1; waiting <= room; waiting++)
            {
                (int requests, int rows) = buckets.Prefill(waiting, room);
                Assert.True(requests >= 1 && requests <= waiting && rows >= requests && rows <= room && rows is 1 or 2 or 4 or 8, $"{waiting} of {room}: {requests} in {rows} rows");
            }
        }

        Assert.Equal([1, 2, 4, 4, 8, 8, 12], new[] { 1, 2, 3, 4, 5, 8, 9 }.Select(buckets.Rows));
        Assert.Equal([32, 32, 64, 100], new[] { 1, 32, 33, 65 }.Select(buckets.Tokens));
    }

    [Fact]
    public void StoppingLeavesWhatThereIs()
    {
        using var stop = new CancellationTokenSource();
        using DecoderModel model = Open(KernelSet.BatchInvariant);
        ServingResult result = ServingExperiment.Run(model, s_options with { Completions = 1000 }, new Stop(stop), stop.Token);

        Assert.False(result.IsComplete);
        Assert.InRange(result.Decodings[0].Completions, 1, 999);
    }

    [Fact]
    public void WhatCannotBeServedIsRefused()
    {
        Assert.Contains("context of 512", Assert.Throws<VerificationException>(() => Run(KernelSet.BatchInvariant, s_options with { NewTokens = 300 })).Message, StringComparison.Ordinal);
        using (DecoderModel growing = DecoderModel.Open(GraphVariants.GrowingCache(models.Export(ExportPrecision.Fp32)), new DecoderModelOptions { Kernels = KernelSet.Stock }))
        {
            Assert.Contains("--buckets", Assert.Throws<VerificationException>(() => ServingExperiment.Run(growing, s_options with { PadsToBuckets = true })).Message, StringComparison.Ordinal);
        }

        Assert.Contains("2 or more completions", Assert.Throws<VerificationException>(() => Run(KernelSet.BatchInvariant, s_options with { Completions = 1 })).Message, StringComparison.Ordinal);
    }

    private ServingResult Run(KernelSet kernels, ServingOptions options)
    {
        using DecoderModel model = Open(kernels);
        return ServingExperiment.Run(model, options);
    }

    private DecoderModel Open(KernelSet kernels) => DecoderModel.Open(models.Export(ExportPrecision.Int4), new DecoderModelOptions { Kernels = kernels });

    private sealed class Stop(CancellationTokenSource source) : IProgress<(int Done, int Total)>
    {
        public void Report((int Done, int Total) value)
        {
            if (value.Done > 10)
            {
                source.Cancel();
            }
        }
    }
}
