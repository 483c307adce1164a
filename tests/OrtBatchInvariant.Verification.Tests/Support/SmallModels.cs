using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Tests.Support;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Tests.Support;

/// <summary>Decoders of random weights that run in no time.</summary>
public sealed class SmallModels : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static HfConfig Shape { get; } = KnownShapes.Get("llama3-8b") with
    {
        HiddenSize = 128, IntermediateSize = 256, LayerCount = 2, HeadCount = 4, KeyValueHeadCount = 2, HeadSize = 32, VocabularySize = 512,
        ContextLength = 512, BosTokenId = 1, EosTokenIds = [2],
    };

    public string Path => _folder.Path;

    public ModelFolder Export(ExportPrecision precision)
    {
        string folder = System.IO.Path.Combine(Path, precision.ToString());
        if (!Directory.Exists(folder))
        {
            ModelExporter.ExportRandom(Shape, folder, new ExportOptions { Precision = precision, AccuracyLevel = 0 }, seed: 4);
        }

        return ModelFolder.Open(folder);
    }

    public void Dispose() => _folder.Dispose();
}
