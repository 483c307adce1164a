using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Models.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Models.Tests.Export;

/// <summary>Exported graphs, run in ONNX Runtime with and without our provider, against an independent float64 forward pass.</summary>
[Collection(ProviderCollection.Name)]
public class ExportedGraphTests(ITestOutputHelper output)
{
    private const int Prefill = 7;

    private static readonly int[] _tokens = [1, 17, 4, 63, 9, 9, 40, 22, 71, 5, 33, 12, 58, 2, 6, 79, 30, 44, 11, 27];

    public static TheoryData<string, bool> Names => Combine(TinyModels.Names, [false, true]);

    public static TheoryData<string> AllNames => [.. TinyModels.Names];

    [Theory]
    [MemberData(nameof(Names))]
    public void Fp32LogitsEqualTheFloat64ForwardPass(string name, bool batchInvariant)
    {
        var model = TinyModels.Get(name);
        var weights = model.Weights();
        using var folder = new TemporaryFolder();
        ModelExporter.Export(model.WriteTo(folder["hf"], weights), folder["onnx"], new ExportOptions { ContextLength = model.ExportContext });

        var expected = new ReferenceDecoder(model, key => [.. weights[key].Select(x => (double)x)]).Logits(_tokens);
        using var runner = new OnnxRunner(folder["onnx"], model, batchInvariant);
        Logits.AssertClose(expected, runner.Append(_tokens), tolerance: 2e-5, output);
        Logits.AssertClose(expected, Logits.ByPrefillAndSteps(runner, _tokens, Prefill), tolerance: 2e-5, output);
    }

    [Theory]
    [MemberData(nameof(AllNames))]
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

    public static TheoryData<string, ExportPrecision, int, int, bool> Quantized()
    {
        var data = new TheoryData<string, ExportPrecision, int, int, bool>
        {
            { "llama untied", ExportPrecision.Int4, 0, 16, false },
            { "llama untied", ExportPrecision.Int8, 0, 32, false },
            { "llama tied bf16", ExportPrecision.Int4, 0, 32, false },
            { "llama tied bf16", ExportPrecision.Int4, 0, 128, true },
            { "qwen3 untied bf16", ExportPrecision.Int4, 0, 64, false },
            { "qwen3 tied", ExportPrecision.Int4, 4, 32, false },
            { "gemma2", ExportPrecision.Int4, 0, 32, false },
            { "phi3 long", ExportPrecision.Int8, 0, 64, false },
        };
        foreach (var name in TinyModels.Names)
        {
            data.Add(name, ExportPrecision.Int4, 0, 32, true);
            data.Add(name, ExportPrecision.Int4, 4, 32, true);
            data.Add(name, ExportPrecision.Int8, 0, 32, true);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Quantized))]
    public void QuantizedLogitsEqualTheForwardPassWithDequantizedWeights(
        string name, ExportPrecision precision, int accuracyLevel, int blockSize, bool symmetric)
    {
        var model = TinyModels.Get(name);
        using var folder = new TemporaryFolder();
        ModelExporter.Export(
            model.WriteTo(folder["hf"], model.Weights()),
            folder["onnx"],
            new ExportOptions
            {
                Precision = precision,
                AccuracyLevel = accuracyLevel,
                BlockSize = blockSize,
                IsSymmetric = symmetric,
                ContextLength = model.ExportContext,
            });

        var exported = new ExportedWeights(folder["onnx/model.onnx"], model);

        // Blocks that do not fill a row cannot be looked up, so the embedding then stays in fp32 beside the quantised head.
        var reference = model with { Tied = model.Tied && model.Hidden % blockSize == 0 };
        var expected = new ReferenceDecoder(reference, exported.Get).Logits(_tokens);

        // Level 4 rounds activations to int8, by itself about a hundredth of the largest element of a block.
        var tolerance = accuracyLevel == 4 ? 8e-2 : 2e-5;
        foreach (var batchInvariant in (bool[])[false, true])
        {
            using var runner = new OnnxRunner(folder["onnx"], model, batchInvariant);
            Logits.AssertClose(expected, runner.Append(_tokens), tolerance, output);
            Logits.AssertClose(expected, Logits.ByPrefillAndSteps(runner, _tokens, Prefill), tolerance, output);
        }
    }

    private static TheoryData<string, bool> Combine(IEnumerable<string> names, bool[] providers)
    {
        var data = new TheoryData<string, bool>();
        foreach (var name in names)
        {
            Array.ForEach(providers, provider => data.Add(name, provider));
        }

        return data;
    }
}
