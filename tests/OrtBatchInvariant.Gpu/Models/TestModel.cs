using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Gpu.Models;

/// <summary>A model that checks run, written when it is first needed.</summary>
internal sealed class TestModel
{
    // Two tokens at the end of the vocabulary.
    private const int NaNTokens = 2;

    private static readonly HfConfig s_small = KnownShapes.Get("llama3-8b") with
    {
        HiddenSize = 1024,
        IntermediateSize = 2816,
        LayerCount = 3,
        HeadCount = 8,
        KeyValueHeadCount = 2,
        VocabularySize = 8192,
        ContextLength = 2048,
        BosTokenId = 1,
        EosTokenIds = [2],
    };

    private static readonly HfConfig s_tiny = s_small with
    {
        HiddenSize = 256, IntermediateSize = 704, LayerCount = 2, HeadCount = 4, HeadSize = 64, VocabularySize = 1024,
    };

    private readonly HfConfig? _shape;
    private readonly ExportOptions _options;

    internal TestModel(string name, HfConfig? shape, ExportOptions options)
    {
        Name = name;
        _shape = shape;
        _options = options;
    }

    /// <summary>What reports call it.</summary>
    public string Name { get; }

    /// <summary>Whether it is the demo model, which was trained, and not random.</summary>
    public bool IsTrained => _shape is null;

    /// <summary>Tokens whose embeddings are NaN and infinite.</summary>
    public IReadOnlyList<int> HostileTokens => _shape is { } shape ? [shape.VocabularySize - 1, shape.VocabularySize - NaNTokens] : [];

    /// <summary>The models of a device.</summary>
    public static IReadOnlyList<TestModel> For(bool gpu, bool quick)
    {
        HfConfig shape = quick ? s_tiny : s_small;
        ExportTarget target = gpu ? ExportTarget.Cuda : ExportTarget.Cpu;
        var plain = new ExportOptions { Precision = gpu ? ExportPrecision.Fp16 : ExportPrecision.Fp32, Target = target };
        var int4 = new ExportOptions { Precision = ExportPrecision.Int4, Target = target, AccuracyLevel = 0 };
        string name = gpu ? "fp16" : "fp32";
        List<TestModel> models =
        [
            new($"demo {name}", null, plain), new("demo int4", null, int4), new($"random {name}", shape, plain),
            new("random int4", shape, int4 with { IsSymmetric = false, BlockSize = 128 }),
        ];
        if (gpu)
        {
            models.Add(new TestModel("random bf16", shape, plain with { Precision = ExportPrecision.Bf16 }));
        }

        return models;
    }

    /// <summary>A small model whose heads have that size.</summary>
    public static TestModel WithHeadsOf(int size) => new(
        $"heads of {size}", s_tiny with { HeadSize = size, HeadCount = 2, KeyValueHeadCount = 1 },
        new ExportOptions { Precision = ExportPrecision.Fp16, Target = ExportTarget.Cuda });

    /// <summary>Writes the model unless it is there.</summary>
    public ModelFolder Make(string modelsFolder)
    {
        string folder = Path.Combine(modelsFolder, $"{Name.Replace(' ', '-')}-{_options.Target.ToString().ToLowerInvariant()}-{_shape?.HiddenSize ?? 0}");
        if (!Directory.Exists(folder))
        {
            Directory.CreateDirectory(modelsFolder);
            if (_shape is null)
            {
                ModelExporter.Export(FindDemo(), folder, _options);
            }
            else
            {
                ModelExporter.ExportRandom(_shape, folder, _options, seed: 20);
                HostileEmbeddings.Write(Path.Combine(folder, "model.onnx"), HostileTokens);
            }
        }

        return ModelFolder.Open(folder);
    }

    private static string FindDemo()
    {
        foreach (string start in (string[])[AppContext.BaseDirectory, Environment.CurrentDirectory])
        {
            for (DirectoryInfo? at = new(start); at is not null; at = at.Parent)
            {
                string folder = Path.Combine(at.FullName, "models", "demo");
                if (File.Exists(Path.Combine(folder, "config.json")))
                {
                    return folder;
                }
            }
        }

        throw new VerificationException("The demo model, models/demo, is neither beside the program nor in a folder above.");
    }
}
