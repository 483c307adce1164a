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
