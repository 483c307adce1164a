using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;
using OrtBatchInvariant.Verification.Tests.Support;

namespace OrtBatchInvariant.Verification.Tests.Device;

/// <summary>The decode loop over a bare session, on the CPU; <c>scripts/gpu-check.sh</c> runs the same on a GPU.</summary>
public sealed class DeviceTests : IDisposable
{
    private readonly SmallModels _models = new();

    public void Dispose() => _models.Dispose();

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
        using (DecoderModel model = DecoderModel.Open(Export(ExportPrecision.Fp32), new DecoderModelOptions { ProfilePrefix = Path.Combine(_models.Path, "profile") }))
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

    private ModelFolder Export(ExportPrecision precision) => _models.Export(precision);
}
