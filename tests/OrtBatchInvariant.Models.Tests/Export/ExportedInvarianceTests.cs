using System.Runtime.InteropServices;
using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Models.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Models.Tests.Export;

/// <summary>
/// A row's logits, bit for bit, over batch sizes, positions, neighbours (among them NaN and infinite embeddings where the
/// format can hold them), padding, and prefill against single tokens: ours never change, stock ones do.
/// </summary>
[Collection(ProviderCollection.Name)]
public class ExportedInvarianceTests(ITestOutputHelper output)
{
    private const int NaNToken = 78;
    private const int InfinityToken = 79;

    private static readonly int[] _prompt = [1, 17, 4, 63, 9, 9, 40, 22, 71];
    private static readonly int[] _answer = [5, 33, 12, 58, 2];

    public static TheoryData<string, ExportPrecision, int> Cases()
    {
        var data = new TheoryData<string, ExportPrecision, int>();
        foreach (var name in TinyModels.Names)
        {
            data.Add(name, ExportPrecision.Fp32, 0);
            data.Add(name, ExportPrecision.Int4, 0);
            data.Add(name, ExportPrecision.Int4, 4);
            data.Add(name, ExportPrecision.Int8, 0);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void OurLogitsKeepTheirBytes(string name, ExportPrecision precision, int accuracyLevel)
    {
        var (compared, different, nodes) = Compare(TinyModels.Get(name), precision, accuracyLevel, batchInvariant: true);
        output.WriteLine($"{compared} logits compared, {different} different");
        Assert.NotEqual(0, compared);
        Assert.Equal(0, different);

        // The session is strict; the report must say the same.
        Assert.NotEmpty(nodes);
        Assert.DoesNotContain(nodes, node => node.ServedBy == ServedBy.StockVarying);
    }

    /// <summary>The proof that the test above can fail.</summary>
    [Theory]
    [InlineData("llama untied", ExportPrecision.Fp32, 0)]
    [InlineData("phi3 long", ExportPrecision.Int4, 0)]
    [InlineData("gemma2", ExportPrecision.Int4, 4)]
    public void StockLogitsChangeTheirBytes(string name, ExportPrecision precision, int accuracyLevel)
    {
        var (compared, different, _) = Compare(TinyModels.Get(name), precision, accuracyLevel, batchInvariant: false);
        output.WriteLine($"{compared} logits compared, {different} different");
        Assert.NotEqual(0, different);
    }

    private static (long Compared, long Different, IReadOnlyList<CoverageNode> Nodes) Compare(
        TinyModel model, ExportPrecision precision, int accuracyLevel, bool batchInvariant)
    {
        var weights = model.Weights();

        // A tied table is the head's too, which quantisation refuses to take with a NaN.
        if (!model.Tied || precision == ExportPrecision.Fp32)
        {
            weights["model.embed_tokens.weight"].AsSpan(NaNToken * model.Hidden, model.Hidden).Fill(float.NaN);
            weights["model.embed_tokens.weight"].AsSpan(InfinityToken * model.Hidden, model.Hidden).Fill(float.PositiveInfinity);
        }

        using var folder = new TemporaryFolder();
        var options = new ExportOptions { Precision = precision, AccuracyLevel = accuracyLevel, ContextLength = model.ExportContext };
        ModelExporter.Export(model.WriteTo(folder["hf"], weights), folder["onnx"], options);
        using var runner = new OnnxRunner(folder["onnx"], model, batchInvariant);

        var alone = Generate(runner, [_prompt], row: 0, _answer);
        var random = new Random(model.Seed);
        var (compared, different) = (0L, 0L);
        void Count(float[][] other)
        {
            foreach (var (a, b) in alone.Zip(other))
            {
                var x = MemoryMarshal.Cast<float, uint>(a);
                var y = MemoryMarshal.Cast<float, uint>(b);
                Assert.Equal(x.Length, y.Length);
                for (var i = 0; i < x.Length; i++)
                {
                    compared++;
                    different += x[i] == y[i] ? 0 : 1;
                }
            }
        }

        foreach (var (batch, row) in ((int, int)[])[(2, 0), (2, 1), (3, 1), (5, 4), (8, 0), (8, 7)])
        {
            var rows = Enumerable.Range(0, batch).Select(_ => Neighbour(random)).ToArray();
            rows[row] = _prompt;
            Count(Generate(runner, rows, row, _answer));
        }

        Count(Generate(runner, [_prompt[..1]], row: 0, [.. _prompt[1..], .. _answer]));
        return (compared, different, runner.Nodes);
    }

    /// <summary>Logits of a row's prompt and of the tokens that follow, one at a time; the other rows go on at random.</summary>
    private static float[][] Generate(OnnxRunner runner, IReadOnlyList<int>[] rows, int row, int[] answer)
    {
        runner.Reset();
        var random = new Random(1);
        var logits = runner.AppendBatch(rows)[row].ToList();
        foreach (var token in answer)
        {
            var next = rows.Select((_, i) => (IReadOnlyList<int>)[i == row ? token : random.Next(InfinityToken + 1)]).ToList();
            logits.AddRange(runner.AppendBatch(next)[row]);
        }

        return [.. logits];
    }

    private static int[] Neighbour(Random random)
    {
        var tokens = new int[random.Next(1, 2 * _prompt.Length)];
        for (var i = 0; i < tokens.Length; i++)
        {
            tokens[i] = random.Next(InfinityToken + 1);
        }

        return tokens;
    }
}
