using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Cli.Tests.Support;

/// <summary>Models that the tests share, exported once.</summary>
public sealed class Models : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public Models()
    {
        Checkpoint = Path.Combine(AppContext.BaseDirectory, "models", "demo");
        Int4 = Path.Combine(_folder.Path, "int4");
        ModelExporter.Export(Checkpoint, Int4, new ExportOptions { Precision = ExportPrecision.Int4, AccuracyLevel = 0 });
        Random = Path.Combine(_folder.Path, "random");
        ModelExporter.ExportRandom(
            new HfConfig
            {
                Architecture = "LlamaForCausalLM",
                HiddenSize = 64,
                IntermediateSize = 96,
                LayerCount = 2,
                HeadCount = 4,
                KeyValueHeadCount = 2,
                HeadSize = 16,
                VocabularySize = 128,
                ContextLength = 512,
                EosTokenIds = [2],
            },
            Random);
    }

    /// <summary>The checkpoint of the demo model, as the tool carries it.</summary>
    public string Checkpoint { get; }

    /// <summary>The demo model with int4 weights, accuracy_level 0.</summary>
    public string Int4 { get; }

    /// <summary>A tiny model of random weights, without a tokenizer.</summary>
    public string Random { get; }

    public void Dispose() => _folder.Dispose();
}

[CollectionDefinition(nameof(Models))]
public sealed class ModelsCollection : ICollectionFixture<Models>;
