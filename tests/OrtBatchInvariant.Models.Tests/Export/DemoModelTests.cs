using System.Text.Json;
using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Models.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Models.Tests.Export;

/// <summary>The trained demo model in each precision.</summary>
public class DemoModelTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(ExportPrecision.Fp32, 0)]
    [InlineData(ExportPrecision.Int8, 4)]
    [InlineData(ExportPrecision.Int4, 0)]
    [InlineData(ExportPrecision.Int4, 4)]
    public void ItLoadsAndPredictsItsOwnGreedyText(ExportPrecision precision, int accuracyLevel)
    {
        var source = Path.Combine(RepositoryRoot(), "models", "demo");
        using var folder = new TemporaryFolder();
        var options = new ExportOptions { Precision = precision, AccuracyLevel = accuracyLevel };
        var result = ModelExporter.Export(source, folder["out"], options);
        Assert.Contains("tokenizer.json", result.CopiedFiles);

        var config = HfConfig.Load(source);
        var shape = new TinyModel
        {
            Layers = config.LayerCount,
            Heads = config.HeadCount,
            KeyValueHeads = config.KeyValueHeadCount,
            HeadSize = config.HeadSize,
            Vocabulary = config.VocabularySize,
        };
        using var runner = new OnnxRunner(folder["out"], shape);
        List<int> tokens = [config.BosTokenId];
        var confidence = 0.0;
        const int Steps = 32;
        for (var step = 0; step < Steps; step++)
        {
            var logits = runner.Append([tokens[^1]])[0];
            var next = Array.IndexOf(logits, logits.Max());
            confidence += 1 / logits.Sum(x => Math.Exp(x - logits.Max()));
            tokens.Add(next);
        }

        var vocabulary = Vocabulary(source);
        var text = string.Join(' ', tokens.Select(token => vocabulary.GetValueOrDefault(token, $"#{token}")));
        output.WriteLine($"{Steps} greedy tokens, mean probability {confidence / Steps:F3}: {text}");

        // A trained model is far surer of its own text than one part in the vocabulary, and does not repeat one token.
        Assert.InRange(confidence / Steps, 0.1, 1);
        Assert.True(tokens.Distinct().Count() > Steps / 4);
    }

    private static Dictionary<int, string> Vocabulary(string source)
    {
        using var tokenizer = JsonDocument.Parse(File.ReadAllText(Path.Combine(source, "tokenizer.json")));
        return tokenizer.RootElement.GetProperty("model").GetProperty("vocab").EnumerateObject()
            .ToDictionary(entry => entry.Value.GetInt32(), entry => entry.Name);
    }

    private static string RepositoryRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Directory.Packages.props")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException("The tests run outside the repository.");
    }
}
