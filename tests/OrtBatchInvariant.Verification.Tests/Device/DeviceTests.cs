using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Tests.Device;

/// <summary>The decode loop over a bare session, on the CPU; <c>scripts/gpu-check.sh</c> runs the same on a GPU.</summary>
public sealed class DeviceTests : IDisposable
{
    private static readonly HfConfig s_shape = KnownShapes.Get("llama3-8b") with
    {
        HiddenSize = 128, IntermediateSize = 256, LayerCount = 2, HeadCount = 4, KeyValueHeadCount = 2, HeadSize = 32, VocabularySize = 512,
        ContextLength = 512, BosTokenId = 1, EosTokenIds = [2],
    };

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("ortbi-device-tests");

    public void Dispose() => _folder.Delete(recursive: true);

    [Theory]
    [InlineData(ExportPrecision.Fp32)]
    [InlineData(ExportPrecision.Int4)]
    public void NoAxisChangesAByte(ExportPrecision precision)
    {
        using DecoderModel model = DecoderModel.Open(Export(precision));

        IReadOnlyList<DeviceAxisResult> axes = DeviceInvariance.Run(model, graphModel: null, Quick);

        Assert.All(axes, axis => Assert.True(axis.IsInvariant, axis.ToString()));
        Assert.True(axes.Sum(axis => axis.ElementsCompared) > 1_000_000);
    }

    // MatMulNBits without int8 activations takes another path for one row, and attention another for one token.
    [Fact]
    public void StockKernelsFailTheSameAxes()
    {
        using DecoderModel model = DecoderModel.Open(Export(ExportPrecision.Int4), new DecoderModelOptions { Kernels = KernelSet.Stock });

        IReadOnlyList<DeviceAxisResult> axes = DeviceInvariance.Run(model, graphModel: null, Quick);

        Assert.Contains(axes, axis => axis.Name == "prefill against decode" && axis.ElementsDifferent > 0);
    }

    [Fact]
    public void OnePromptHasOneCompletion()
    {
        using DecoderModel model = DecoderModel.Open(Export(ExportPrecision.Int4));

        DeviceCompletionsResult result = DeviceCompletions.Run(model, prompt: [7, 3, 9, 11, 4], completions: 40, newTokens: 6, maxRows: 9, seed: 3);

        Assert.Equal((40, 1, 1), (result.Completions, result.UniqueLogits, result.UniqueCompletions));
        Assert.Equal(40 * 6 * s_shape.VocabularySize, result.LogitsCompared);
        Assert.Equal(6, result.Alone.Count);
    }

    [Fact]
    public void WhatABatchCannotTakeIsRefused()
    {
        using DecoderModel model = DecoderModel.Open(Export(ExportPrecision.Fp32));
        using var batch = new DecoderBatch(model, rows: 2, capacity: 6);

        Assert.Contains("KV buffer of 6", Assert.Throws<VerificationException>(() => batch.Append([[1, 2, 3, 4, 5, 6, 7], [1]])).Message, StringComparison.Ordinal);
        Assert.Contains("batch of 2", Assert.Throws<VerificationException>(() => batch.Append([[1]])).Message, StringComparison.Ordinal);
        batch.Append([[1, 2, 3], [4]]).Dispose();
        Assert.Equal([3, 1], batch.Lengths);
        Assert.Contains("equally many", Assert.Throws<VerificationException>(() => batch.Append([[1, 2], [1]])).Message, StringComparison.Ordinal);
        Assert.Equal([3, 1], batch.Lengths);
    }

    [Fact]
    public void AGraphOrAPeerWithoutAGpuIsRefused()
    {
        ModelFolder folder = Export(ExportPrecision.Fp32);

        Assert.Contains("GPU", Assert.Throws<VerificationException>(() => DecoderModel.Open(folder, new DecoderModelOptions { EnableCudaGraph = true })).Message, StringComparison.Ordinal);
        Assert.Contains("1000", Assert.Throws<VerificationException>(() => DecoderModel.Open(folder, new DecoderModelOptions { DeviceId = 1000 })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AProfileSaysWhereNodesRan()
    {
        string profile;
        using (DecoderModel model = DecoderModel.Open(Export(ExportPrecision.Fp32), new DecoderModelOptions { ProfilePrefix = Path.Combine(_folder.FullName, "profile") }))
        {
            using var batch = new DecoderBatch(model, rows: 1, capacity: 8);
            batch.Append([[1, 2, 3]]).Dispose();
            profile = model.EndProfiling();
        }

        IReadOnlyList<NodeAssignment> nodes = NodeAssignments.Read(profile);

        NodeAssignment attention = Assert.Single(nodes, node => node.Name == "/model/layers.0/attn/GroupQueryAttention");
        Assert.Equal(("GroupQueryAttention", BatchInvariantProvider.Name, true, false), (attention.Op, attention.Provider, attention.HasFloatOutput, attention.IsShapeArithmetic));
        Assert.Contains(nodes, node => node is { Op: "Shape", IsShapeArithmetic: true });

        File.WriteAllText(profile, "[{\"cat\":");
        Assert.Contains("not a profile", Assert.Throws<VerificationException>(() => NodeAssignments.Read(profile)).Message, StringComparison.Ordinal);
    }

    private static DeviceInvarianceOptions Quick => new() { IsQuick = true, MaxRows = 5, NewTokens = 5 };

    private ModelFolder Export(ExportPrecision precision)
    {
        string folder = Path.Combine(_folder.FullName, precision.ToString());
        ModelExporter.ExportRandom(s_shape, folder, new ExportOptions { Precision = precision, AccuracyLevel = 0 }, seed: 4);
        return ModelFolder.Open(folder);
    }
}
