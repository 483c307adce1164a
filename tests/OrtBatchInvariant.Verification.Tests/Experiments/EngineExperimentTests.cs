using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Experiments;
using OrtBatchInvariant.Verification.Hosting;
using OrtBatchInvariant.Verification.Tests.Support;

namespace OrtBatchInvariant.Verification.Tests.Experiments;

/// <summary>GenAI's Engine through its C interface.</summary>
public sealed class EngineExperimentTests : IDisposable
{
    private static readonly ServingOptions s_options = new() { Prompt = [7, 3, 9, 11, 4], Completions = 40, NewTokens = 6, Seed = 3 };

    private readonly SmallModels _models = new();
    private readonly OgaHandle _genAI;

    public EngineExperimentTests()
    {
        OnnxRuntimeLibrary.LoadFirst();
        _genAI = new OgaHandle();
    }

    public void Dispose()
    {
        _genAI.Dispose();
        _models.Dispose();
    }

    [Theory]
    [InlineData(Arrivals.Poisson)]
    [InlineData(Arrivals.Batches)]
    public void OnePromptHasOneText(Arrivals arrivals)
    {
        using HostedModel model = Load(KernelSet.BatchInvariant);
        ServingResult result = EngineExperiment.Run(model, s_options with { Arrivals = arrivals });

        DecodingResult decoding = Assert.Single(result.Decodings);
        Assert.True(result is { IsInvariant: true, IsComplete: true, Engine: not null, LogitsCompared: 0, TokensPerSecond: > 0 }, result.ToString());
        Assert.Equal((40, null, 1, null), (decoding.Completions, decoding.DistinctLogits, decoding.DistinctTexts, decoding.FirstDifferentToken));
        Assert.Equal(GenAIEngine.MaxRows, result.LargestBatch);
        Assert.True(decoding.BatchSizes.Count > 2, $"requests ran in batches of {string.Join(", ", decoding.BatchSizes)}");
        Assert.Equal(("batch-invariant", true), (result.Subject.Provider, result.Subject.Contracts.Count > 0));
    }

    [Fact]
    public void OneTokenIsEnough()
    {
        using HostedModel model = Load(KernelSet.BatchInvariant);
        ServingResult result = EngineExperiment.Run(model, s_options with { NewTokens = 1 });
        Assert.True(result is { IsInvariant: true, IsComplete: true, LargestBatch: GenAIEngine.MaxRows }, result.ToString());
    }

    /// <summary>What the Engine generates for prompts of several lengths together is what a session does for each alone.</summary>
    [Fact]
    public void TextsAreThoseOfASession()
    {
        int[][] prompts = [[7, 3, 9, 11, 4], [.. Enumerable.Range(20, 33)], [5, 6], [.. Enumerable.Range(100, 9)], [8, 400, 31], [.. Enumerable.Range(60, 70)]];
        var texts = prompts.ToDictionary(prompt => prompt, _ => new List<int>());
        using (HostedModel model = Load(KernelSet.BatchInvariant))
        {
            using var engine = new GenAIEngine(model);
            foreach (int[] prompt in prompts)
            {
                engine.Submit(prompt, 6, prompt);
            }

            while (engine.Pending > 0)
            {
                if (engine.Step() is (int[] prompt, var token))
                {
                    texts[prompt].Add(token);
                }
            }
        }

        using DecoderModel session = DecoderModel.Open(_models.Export(ExportPrecision.Int4));
        Assert.All(prompts, prompt =>
        {
            LogitsDigests alone = LogitsDigests.Record(session, new AuditOptions { Prompt = prompt, NewTokens = 6 });
            Assert.Equal(alone.Text.Skip(prompt.Length), texts[prompt]);
        });
    }

    /// <summary>Another text is counted, with the token where it parts.</summary>
    [Fact]
    public void AnotherTextIsSeen()
    {
        var tally = new DecodingTally("temperature 0", 3);
        foreach (int[] tokens in (int[][])[[4, 5, 6], [4, 5, 6], [4, 7, 6]])
        {
            var request = new Request([1, 2], 3, new Greedy(), isProbe: true);
            foreach (int token in tokens)
            {
                request.Take(token, batchSize: 2);
            }

            tally.Add(request);
        }

        DecodingResult result = tally.Result();
        Assert.Equal((3, null, 2, 1, false), (result.Completions, result.DistinctLogits, result.DistinctTexts, result.FirstDifferentToken, result.IsInvariant));
    }

    [Fact]
    public void WhatTheEngineCannotRunIsRefused()
    {
        using HostedModel model = Load(KernelSet.Stock);
        Assert.Contains("context of 512", Assert.Throws<VerificationException>(() => EngineExperiment.Run(model, s_options with { NewTokens = 300 })).Message, StringComparison.Ordinal);
        using var engine = new GenAIEngine(model);
        Assert.Contains("GenAI's Engine failed", Assert.Throws<VerificationException>(() => engine.Submit([], 5, "")).Message, StringComparison.Ordinal);
        Assert.Equal(0, engine.Pending);
    }

    private HostedModel Load(KernelSet kernels) => HostedModel.Load(_models.Export(ExportPrecision.Int4), new HostOptions { Kernels = kernels });
}
