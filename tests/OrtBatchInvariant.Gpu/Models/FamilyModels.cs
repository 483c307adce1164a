using OrtBatchInvariant.Models.Export;

namespace OrtBatchInvariant.Gpu.Models;

/// <summary>
/// A small model of each family that differs from the standard ones: its heads keep their real size, its windows and rope
/// scaling are short enough to matter.
/// </summary>
internal static class FamilyModels
{
    private const int Context = 2048;
    private const int Window = 64;

    public static IReadOnlyList<TestModel> For(bool gpu) =>
    [
        Model("phi3-mini-4k", ExportPrecision.Fp16, gpu), Model("phi4-mini", ExportPrecision.Int4, gpu),
        Model("gemma2-2b", ExportPrecision.Bf16, gpu), Model("gemma3-1b", ExportPrecision.Bf16, gpu), Model("gemma3-1b", ExportPrecision.Int4, gpu),
        Model("smollm3-3b", ExportPrecision.Fp16, gpu), Model("olmo2-1b", ExportPrecision.Bf16, gpu), Model("qwen2.5-0.5b", ExportPrecision.Int8, gpu),
    ];

    private static TestModel Model(string like, ExportPrecision precision, bool gpu)
    {
        bool isFloat = precision is ExportPrecision.Fp16 or ExportPrecision.Bf16;
        var options = new ExportOptions
        {
            Precision = isFloat && !gpu ? ExportPrecision.Fp32 : precision,
            Target = gpu ? ExportTarget.Cuda : ExportTarget.Cpu,
            UseBf16Activations = gpu && !isFloat,
            AccuracyLevel = 0,
        };
        return new TestModel($"{like} {options.Precision.ToString().ToLowerInvariant()}", Small(KnownShapes.Get(like)), options);
    }

    private static HfConfig Small(HfConfig shape) => shape with
    {
        HiddenSize = 256,
        IntermediateSize = 704,
        LayerCount = Math.Max(2, Math.Max(shape.WindowPattern.Count, shape.RotaryPattern.Count)),
        HeadCount = 4,
        KeyValueHeadCount = 2,
        VocabularySize = 1024,
        ContextLength = Context,
        SlidingWindow = shape.SlidingWindow == -1 ? -1 : Window,
        Rope = shape.Rope.Scaling is LongRopeScaling scaling
            ? shape.Rope with { Scaling = scaling with { OriginalContextLength = Context / 2 } }
            : shape.Rope,

        // A table of its own can hold NaN whatever the head's format.
        TieWordEmbeddings = false,
        BosTokenId = 1,
        EosTokenIds = [2],
        PadTokenId = 0,
    };
}
