using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Conversion;
using OrtBatchInvariant.GenAI.Tests.Support;
using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.GenAI.Tests;

/// <summary>
/// Each family that can be exported, its real shape made small: GenAI knows its type and runs it, with its own provider and with
/// ours, and a row's logits do not depend on the batch.
/// </summary>
[Collection(DemoModels.Name)]
public sealed class FamilyTests(ITestOutputHelper output) : IDisposable
{
    private const int Vocabulary = 200;
    private const int Steps = 12;

    private static readonly int[] s_prompt = [1, 17, 4, 163, 9, 9, 140, 22];

    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string, ExportPrecision> Cases()
    {
        var data = new TheoryData<string, ExportPrecision>();
        foreach (string name in (string[])
            ["llama3.2-1b", "mistral-7b", "qwen2.5-0.5b", "qwen3-0.6b", "phi3-mini-4k", "phi4-mini", "gemma2-2b", "gemma3-1b", "smollm3-3b", "olmo2-1b"])
        {
            data.Add(name, ExportPrecision.Fp32);
            data.Add(name, ExportPrecision.Int4);
            data.Add(name, ExportPrecision.Int8);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void GenAIRunsItAndRowsDoNotDependOnTheirBatch(string name, ExportPrecision precision)
    {
        string model = Path.Combine(_folder.Path, "model");
        ModelExporter.ExportRandom(Small(name), model, new ExportOptions { Precision = precision, AccuracyLevel = 0 });

        using var stockConfig = new Config(model);
        using var stock = new Model(stockConfig);
        float[][] reference = Generate(stock, batch: 1, row: 0);

        using var config = new Config(model);
        using var ours = new Model(config.UseBatchInvariant());
        ours.GetCoverageReport(config).ThrowIfVarying();
        float[][] alone = Generate(ours, batch: 1, row: 0);
        AssertClose(reference, alone);

        AssertEqual(alone, [Generate(ours, batch: 2, row: 1), Generate(ours, batch: 3, row: 0), Generate(ours, batch: 8, row: 5)]);
    }

    /// <summary>The other route: nothing in the file varies, and GenAI runs its conversion, by its folder alone, to the same bytes.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void ItsConversionGivesTheSameBytes(string name, ExportPrecision precision)
    {
        string model = Path.Combine(_folder.Path, "model");
        ModelExporter.ExportRandom(Small(name), model, new ExportOptions { Precision = precision, AccuracyLevel = 0 });
        var coverage = ModelCoverage.Of(OnnxModel.Load(Path.Combine(model, "model.onnx")));
        Assert.NotEmpty(coverage.Nodes);
        Assert.Empty(coverage.VaryingNodes);

        string converted = ModelConverter.Convert(model, Path.Combine(_folder.Path, "converted"), new ConvertOptions()).Folder;
        using var config = new Config(model);
        using var provider = new Model(config.UseBatchInvariant());
        using var customOps = new Model(converted);
        AssertEqual(Generate(provider, batch: 1, row: 0), [Generate(customOps, batch: 1, row: 0), Generate(customOps, batch: 5, row: 4)]);
    }

    public void Dispose() => _folder.Dispose();

    private static HfConfig Small(string name)
    {
        HfConfig shape = KnownShapes.Get(name);
        RotaryEmbedding rope = shape.Rope.Scaling is LongRopeScaling
            ? shape.Rope with { Fraction = 0.5, Scaling = new LongRopeScaling([1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 2, 2, 3, 3, 4, 4], 16, 1.1) }
            : shape.Rope;
        return shape with
        {
            HiddenSize = 64,
            IntermediateSize = 96,
            LayerCount = 6,
            HeadCount = 4,
            KeyValueHeadCount = 2,
            HeadSize = 32,
            VocabularySize = Vocabulary,
            ContextLength = 64,
            Rope = rope,
            SlidingWindow = shape.SlidingWindow == -1 ? -1 : 10,
            BosTokenId = 1,
            EosTokenIds = [2],
            PadTokenId = 0,
        };
    }

    /// <summary>Logits after the prompt and after each of the tokens that are then put in, the same ones always.</summary>
    private static float[][] Generate(Model model, int batch, int row)
    {
        using var parameters = new GeneratorParams(model);
        parameters.SetSearchOption("batch_size", batch);
        parameters.SetSearchOption("max_length", 40);
        parameters.SetSearchOption("min_length", 40);
        parameters.SetSearchOption("do_sample", false);
        using var generator = new Generator(model, parameters);
        var random = new Random(batch);
        int[] tokens = new int[batch * s_prompt.Length];
        for (int i = 0; i < tokens.Length; i++)
        {
            tokens[i] = i / s_prompt.Length == row ? s_prompt[i % s_prompt.Length] : random.Next(3, Vocabulary);
        }

        generator.AppendTokens(tokens);
        var logits = new List<float[]> { LastLogits(generator, row) };
        for (int step = 0; step < Steps; step++)
        {
            generator.GenerateNextToken();
            logits.Add(LastLogits(generator, row));
        }

        return [.. logits];
    }

    private static float[] LastLogits(Generator generator, int row)
    {
        using Tensor logits = generator.GetOutput("logits");
        long[] shape = logits.Shape();
        return logits.GetData<float>().Slice((int)(((row * shape[1]) + shape[1] - 1) * Vocabulary), Vocabulary).ToArray();
    }

    private void AssertEqual(float[][] expected, float[][][] others)
    {
        (long compared, long different) = (0, 0);
        foreach ((float[] a, float[] b) in others.SelectMany(other => expected.Zip(other)))
        {
            compared += a.Length;
            different += a.Zip(b).Count(pair => BitConverter.SingleToInt32Bits(pair.First) != BitConverter.SingleToInt32Bits(pair.Second));
        }

        output.WriteLine($"{compared} logits compared, {different} different");
        Assert.Equal(others.Length * (Steps + 1) * Vocabulary, compared);
        Assert.Equal(0, different);
    }

    private void AssertClose(float[][] expected, float[][] actual)
    {
        double largest = expected.SelectMany(logits => logits).Max(Math.Abs);
        double worst = expected.Zip(actual).SelectMany(step => step.First.Zip(step.Second)).Max(pair => Math.Abs(pair.First - pair.Second)) / largest;
        output.WriteLine($"stock and ours: largest difference {worst:E2} of the largest logit");
        Assert.InRange(worst, 0, 1e-4);
    }
}
