using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.GenAI.Tests.Support;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.GenAI.Tests;

/// <summary>Model folders that cannot work: GenAI says so by name, and the process lives on.</summary>
[Collection(DemoModels.Name)]
public sealed class BadModelTests(DemoModels models, ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void MissingFolder() => Refused("/no/such/model", "genai_config.json");

    [Fact]
    public void MalformedConfiguration() =>
        Refused(DemoModels.CopyWith(models.Fp32, _folder, "genai_config.json", _ => "{ \"model\": "u8.ToArray()), "JSON");

    [Fact]
    public void MissingModelFile() =>
        Refused(DemoModels.CopyWith(models.Fp32, _folder, "model.onnx", _ => null), "model.onnx");

    [Fact]
    public void TruncatedModelFile() =>
        Refused(DemoModels.CopyWith(models.Fp32, _folder, "model.onnx", content => content[..(content.Length / 2)]), "model.onnx");

    [Fact]
    public void TruncatedWeights() =>
        Refused(DemoModels.CopyWith(models.Fp32, _folder, "model.onnx.data", content => content[..(content.Length / 2)]), "External initializer: lm_head");

    private void Refused(string folder, string named)
    {
        var exception = Assert.Throws<OnnxRuntimeGenAIException>(() =>
        {
            using var config = new Config(folder);
            using var model = new Model(config.UseBatchInvariant());
        });
        output.WriteLine(exception.Message);
        Assert.Contains(named, exception.Message, StringComparison.OrdinalIgnoreCase);
    }
}
