using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.GenAI.Tests.Support;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.GenAI.Tests;

[Collection(DemoModels.Name)]
public sealed class ConfigExtensionsTests(DemoModels models, ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void ReportShowsWhatServesTheModel()
    {
        using var config = new Config(models.Int4);
        using var model = new Model(config.UseBatchInvariant(new() { ReportId = "decoder" }));
        CoverageReport report = model.GetCoverageReport(config);
        output.WriteLine(report.ToString());
        foreach (string op in new[] { "MatMulNBits", "GroupQueryAttention", "SkipSimplifiedLayerNormalization" })
        {
            Assert.Contains(report.Nodes, node => node.Op == op);
            Assert.All(report.Nodes.Where(node => node.Op == op), node => Assert.Equal(ServedBy.BatchInvariant, node.ServedBy));
        }

        Assert.Empty(report.VaryingNodes);
        Assert.Equal(report.Nodes, CoverageReport.Get("decoder").Nodes);
    }

    [Fact]
    public void OtherConfigurationsHaveNoReport()
    {
        using var config = new Config(models.Fp32);
        using var model = new Model(config);
        Assert.Equal(
            "There is no coverage report for this Config: call UseBatchInvariant on it and create a session first.",
            Assert.Throws<BatchInvariantException>(() => model.GetCoverageReport(config)).Message);
    }

    [Fact]
    public void ProvidersThatFollowAreKept()
    {
        using var config = new Config(models.Fp32);
        config.UseBatchInvariant(new() { FollowingProviders = ["nonesuch"] });
        Assert.Contains("'nonesuch'", Assert.Throws<OnnxRuntimeGenAIException>(() => new Model(config)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-4)]
    public void ThreadCountMustBePositive(int threads)
    {
        using var config = new Config(models.Fp32);
        Assert.Equal(
            $"IntraOpThreads is {threads}: use 1 or more, or null for GenAI's choice.",
            Assert.Throws<BatchInvariantException>(() => config.UseBatchInvariant(new() { IntraOpThreads = threads })).Message);
    }

    [Fact]
    public void StrictRefusesAModelWithAVaryingNode()
    {
        string folder = DemoModels.CopyWith(models.Fp32, _folder, "model.onnx", WithVaryingNode);
        using var config = new Config(folder);
        config.UseBatchInvariant();
        var exception = Assert.Throws<OnnxRuntimeGenAIException>(() => new Model(config));
        output.WriteLine(exception.Message);
        Assert.Contains("'/test/Cos'", exception.Message, StringComparison.Ordinal);
        Assert.Contains("strict=0", exception.Message, StringComparison.Ordinal);

        config.UseBatchInvariant(new() { Strict = false });
        using var model = new Model(config);
        Assert.Equal("/test/Cos", Assert.Single(model.GetCoverageReport(config).VaryingNodes).Name);
    }

    [Fact]
    public void TwoCopiesOfOnnxRuntimeAreFound() => Assert.Equal(
        ["/app/libonnxruntime.so", "/app/runtimes/linux-x64/native/libonnxruntime.so.1"],
        OnnxRuntimeImages.Select(
        [
            "/app/libonnxruntime.so", null, "/app/libonnxruntime-genai.so", "/app/runtimes/linux-x64/native/libonnxruntime.so.1",
            "/app/libonnxruntime.so", "/app/libonnxruntime_providers_shared.so",
        ]));

    /// <summary>Puts a Cos, which is on no list, between the graph's last node and its logits.</summary>
    private static byte[] WithVaryingNode(byte[] content)
    {
        ModelProto model = ModelProto.Parser.ParseFrom(content);
        NodeProto last = model.Graph.Node.Single(node => node.Output.Contains("logits"));
        last.Output[last.Output.IndexOf("logits")] = "before_cos";
        var cos = new NodeProto { Name = "/test/Cos", OpType = "Cos" };
        cos.Input.Add("before_cos");
        cos.Output.Add("logits");
        model.Graph.Node.Add(cos);
        return Google.Protobuf.MessageExtensions.ToByteArray(model);
    }
}
