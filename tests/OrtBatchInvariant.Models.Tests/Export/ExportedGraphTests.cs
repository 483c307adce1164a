using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Models.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Models.Tests.Export;

/// <summary>Exported graphs, run in stock ONNX Runtime, against an independent float64 forward pass.</summary>
public class ExportedGraphTests(ITestOutputHelper output)
{
    private static readonly int[] _tokens = [1, 17, 4, 63, 9, 9, 40, 22, 71, 5, 33, 12, 58, 2, 6, 79, 30, 44, 11, 27];

    public static TheoryData<string> Names => [.. TinyModels.Names];

    [Theory]
    [MemberData(nameof(Names))]
    public void Fp32LogitsEqualTheFloat64ForwardPass(string name)
    {
        var model = TinyModels.Get(name);
        var weights = model.Weights();
        using var folder = new TemporaryFolder();
        ModelExporter.Export(model.WriteTo(folder["hf"], weights), folder["onnx"], new ExportOptions { ContextLength = model.ExportContext });

        var expected = new ReferenceDecoder(model, key => [.. weights[key].Select(x => (double)x)]).Logits(_tokens);
        using var runner = new OnnxRunner(folder["onnx"], model);
        AssertClose(expected, runner.Append(_tokens), tolerance: 2e-5);

        // The same by a prefill and single tokens: caches and positions.
        runner.Reset();
        var stepped = runner.Append(_tokens[..7]).ToList();
        stepped.AddRange(_tokens[7..].Select(token => runner.Append([token])[0]));
        AssertClose(expected, [.. stepped], tolerance: 2e-5);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void ExportedFp32WeightsAreThoseOfTheCheckpoint(string name)
    {
        var model = TinyModels.Get(name);
        var weights = model.Weights();
        using var folder = new TemporaryFolder();
        ModelExporter.Export(model.WriteTo(folder["hf"], weights, shards: 3), folder["onnx"]);

        var exported = new ExportedWeights(folder["onnx/model.onnx"], model);
        var compared = 0;
        foreach (var (key, values) in weights)
        {
            // The graph holds a norm's weight with its offset, rounded to fp32.
            var offset = key.EndsWith("norm.weight", StringComparison.Ordinal) ? model.NormOffset : 0;
            Assert.Equal(values.Select(x => (double)(x + offset) - offset), exported.Get(key));
            compared += values.Length;
        }

        output.WriteLine($"{compared} weights compared");
        Assert.NotEqual(0, compared);
    }

    [Theory]
    [InlineData("llama untied", ExportPrecision.Int4, 0, 32, true)]
    [InlineData("llama untied", ExportPrecision.Int4, 0, 16, false)]
    [InlineData("llama untied", ExportPrecision.Int8, 0, 32, true)]
    [InlineData("llama untied", ExportPrecision.Int8, 0, 32, false)]
    [InlineData("llama tied bf16", ExportPrecision.Int4, 0, 32, true)]
    [InlineData("llama tied bf16", ExportPrecision.Int4, 0, 32, false)]
    [InlineData("llama tied bf16", ExportPrecision.Int4, 0, 128, true)]
    [InlineData("llama tied bf16", ExportPrecision.Int8, 0, 32, true)]
    [InlineData("llama biases f16", ExportPrecision.Int4, 0, 32, true)]
    [InlineData("qwen3 tied", ExportPrecision.Int4, 0, 32, true)]
    [InlineData("qwen3 untied bf16", ExportPrecision.Int4, 0, 64, false)]
    [InlineData("llama untied", ExportPrecision.Int4, 4, 32, true)]
    [InlineData("qwen3 tied", ExportPrecision.Int4, 4, 32, true)]
    [InlineData("qwen3 tied", ExportPrecision.Int4, 4, 32, false)]
    public void QuantizedLogitsEqualTheForwardPassWithDequantizedWeights(
        string name, ExportPrecision precision, int accuracyLevel, int blockSize, bool symmetric)
    {
        var model = TinyModels.Get(name);
        using var folder = new TemporaryFolder();
        ModelExporter.Export(
            model.WriteTo(folder["hf"], model.Weights()),
            folder["onnx"],
            new ExportOptions { Precision = precision, AccuracyLevel = accuracyLevel, BlockSize = blockSize, IsSymmetric = symmetric });

        var exported = new ExportedWeights(folder["onnx/model.onnx"], model);

        // Blocks that do not fill a row cannot be looked up, so the embedding then stays in fp32 beside the quantised head.
        var reference = model with { Tied = model.Tied && model.Hidden % blockSize == 0 };
        var expected = new ReferenceDecoder(reference, exported.Get).Logits(_tokens);
        using var runner = new OnnxRunner(folder["onnx"], model);

        // Level 4 rounds activations to int8, by itself about a hundredth of the largest element of a block.
        AssertClose(expected, runner.Append(_tokens), tolerance: accuracyLevel == 4 ? 8e-2 : 2e-5);
    }

    private void AssertClose(double[][] expected, double[][] actual, double tolerance)
    {
        Assert.Equal(expected.Length, actual.Length);
        var largest = expected.SelectMany(row => row).Max(Math.Abs);
        var (compared, worst) = (0, 0.0);
        for (var t = 0; t < expected.Length; t++)
        {
            Assert.Equal(expected[t].Length, actual[t].Length);
            for (var v = 0; v < expected[t].Length; v++)
            {
                var error = Math.Abs(expected[t][v] - actual[t][v]) / largest;
                Assert.False(double.IsNaN(error), $"token {t}, logit {v}: NaN");
                worst = Math.Max(worst, error);
                compared++;
            }
        }

        output.WriteLine($"{compared} logits compared; largest error {worst:E2} of the largest logit");
        Assert.NotEqual(0, compared);
        Assert.InRange(worst, 0, tolerance);
    }
}
