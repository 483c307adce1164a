namespace OrtBatchInvariant.Models.Export;

/// <summary>
/// Shapes of well-known released models, for exports with random weights: sizes, arithmetic and token ids as their
/// published <c>config.json</c> and <c>generation_config.json</c> state.
/// </summary>
public static class KnownShapes
{
    private static readonly RopeScaling _llama31Scaling =
        new(Factor: 8, LowFrequencyFactor: 1, HighFrequencyFactor: 4, OriginalContextLength: 8192);

    private static readonly SortedDictionary<string, HfConfig> _shapes = new(StringComparer.OrdinalIgnoreCase)
    {
        ["qwen3-0.6b"] = Qwen3(hidden: 1024, intermediate: 3072, layers: 28, heads: 16, tied: true),
        ["qwen3-1.7b"] = Qwen3(hidden: 2048, intermediate: 6144, layers: 28, heads: 16, tied: true),
        ["qwen3-4b"] = Qwen3(hidden: 2560, intermediate: 9728, layers: 36, heads: 32, tied: true),
        ["qwen3-8b"] = Qwen3(hidden: 4096, intermediate: 12288, layers: 36, heads: 32, tied: false),
        ["llama3-8b"] = Llama3(hidden: 4096, intermediate: 14336, layers: 32, heads: 32, headSize: 128),
        ["llama3.1-8b"] = Llama3(hidden: 4096, intermediate: 14336, layers: 32, heads: 32, headSize: 128) with
        {
            ContextLength = 131072,
            RopeScaling = _llama31Scaling,
        },
        ["llama3.2-1b"] = Llama3(hidden: 2048, intermediate: 8192, layers: 16, heads: 32, headSize: 64) with
        {
            ContextLength = 131072,
            RopeScaling = _llama31Scaling with { Factor = 32 },
            TieWordEmbeddings = true,
        },
        ["qwen2.5-0.5b"] = Qwen3(hidden: 896, intermediate: 4864, layers: 24, heads: 14, tied: true) with
        {
            Architecture = "Qwen2ForCausalLM",
            KeyValueHeadCount = 2,
            HeadSize = 64,
            ContextLength = 32768,
            QkNorm = false,
            QkvBias = true,
        },
        ["mistral-7b"] = Llama3(hidden: 4096, intermediate: 14336, layers: 32, heads: 32, headSize: 128) with
        {
            Architecture = "MistralForCausalLM",
            VocabularySize = 32768,
            ContextLength = 32768,
            RopeTheta = 1000000,
            BosTokenId = 1,
            EosTokenIds = [2],
        },
    };

    /// <summary>The names, in order.</summary>
    public static IReadOnlyCollection<string> Names => _shapes.Keys;

    /// <summary>The shape of a model.</summary>
    /// <param name="name">One of <see cref="Names"/>, in any case.</param>
    /// <exception cref="ModelException">There is no such name; the message lists those there are.</exception>
    public static HfConfig Get(string name) =>
        _shapes.TryGetValue(name, out var shape)
            ? shape
            : throw new ModelException($"'{name}' is not a known model shape; known are {string.Join(", ", Names)}.");

    private static HfConfig Qwen3(int hidden, int intermediate, int layers, int heads, bool tied) => new()
    {
        Architecture = "Qwen3ForCausalLM",
        HiddenSize = hidden,
        IntermediateSize = intermediate,
        LayerCount = layers,
        HeadCount = heads,
        KeyValueHeadCount = 8,
        HeadSize = 128,
        VocabularySize = 151936,
        ContextLength = 40960,
        RmsNormEpsilon = 1e-6,
        RopeTheta = 1000000,
        TieWordEmbeddings = tied,
        QkNorm = true,
        BosTokenId = 151643,
        EosTokenIds = [151645, 151643],
        PadTokenId = 151643,
    };

    private static HfConfig Llama3(int hidden, int intermediate, int layers, int heads, int headSize) => new()
    {
        Architecture = "LlamaForCausalLM",
        HiddenSize = hidden,
        IntermediateSize = intermediate,
        LayerCount = layers,
        HeadCount = heads,
        KeyValueHeadCount = 8,
        HeadSize = headSize,
        VocabularySize = 128256,
        ContextLength = 8192,
        RmsNormEpsilon = 1e-5,
        RopeTheta = 500000,
        BosTokenId = 128000,
        EosTokenIds = [128001],
    };
}
