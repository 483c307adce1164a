namespace OrtBatchInvariant.Models.Export;

/// <summary>
/// Shapes of well-known released models, for exports with random weights: sizes, arithmetic and token ids as their
/// published <c>config.json</c> and <c>generation_config.json</c> state.
/// </summary>
public static class KnownShapes
{
    private static readonly Llama3RopeScaling _llama31Scaling =
        new(Factor: 8, LowFrequencyFactor: 1, HighFrequencyFactor: 4, OriginalContextLength: 8192);

    private static readonly double[] _phi4MiniLongFactors =
    [
        1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649, 2.446418898, 2.735880826,
        3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845, 5.351743533, 5.984965424, 6.693110555, 7.485043894,
        8.370679318, 9.36110372, 10.4687158, 11.70738129, 13.09260651, 14.64173252, 16.37415215, 18.31155283, 20.47818807,
        22.90118105, 25.61086418, 28.64115884, 32.03, 32.1, 32.13, 32.23, 32.6, 32.61, 32.64, 32.66, 32.7, 32.71, 32.93, 32.97,
        33.28, 33.49, 33.5, 44.16, 47.77,
    ];

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
            Rope = new RotaryEmbedding(500000, Scaling: _llama31Scaling),
        },
        ["llama3.2-1b"] = Llama3(hidden: 2048, intermediate: 8192, layers: 16, heads: 32, headSize: 64) with
        {
            ContextLength = 131072,
            Rope = new RotaryEmbedding(500000, Scaling: _llama31Scaling with { Factor = 32 }),
            TieWordEmbeddings = true,
        },
        ["qwen2.5-0.5b"] = Qwen3(hidden: 896, intermediate: 4864, layers: 24, heads: 14, tied: true) with
        {
            Architecture = "Qwen2ForCausalLM",
            KeyValueHeadCount = 2,
            HeadSize = 64,
            ContextLength = 32768,
            QkvBias = true,
        },
        ["mistral-7b"] = Llama3(hidden: 4096, intermediate: 14336, layers: 32, heads: 32, headSize: 128) with
        {
            Architecture = "MistralForCausalLM",
            VocabularySize = 32768,
            ContextLength = 32768,
            Rope = new RotaryEmbedding(1000000),
            BosTokenId = 1,
            EosTokenIds = [2],
        },
        ["phi3-mini-4k"] = Phi3(heads: 32, keyValueHeads: 32, headSize: 96) with
        {
            VocabularySize = 32064,
            ContextLength = 4096,
            SlidingWindow = 2047,
            BosTokenId = 1,
            EosTokenIds = [32007, 32001, 32000],
            PadTokenId = 32000,
        },
        ["phi4-mini"] = Phi3(heads: 24, keyValueHeads: 8, headSize: 128) with
        {
            VocabularySize = 200064,
            ContextLength = 131072,
            SlidingWindow = 262144,
            TieWordEmbeddings = true,
            Rope = new RotaryEmbedding(
                Fraction: 0.75,
                Scaling: new LongRopeScaling(
                    [.. Enumerable.Repeat(1.0, 48)], _phi4MiniLongFactors, 4096, LongRopeScaling.AttentionFactorFor(32, 4096))),
            BosTokenId = 199999,
            EosTokenIds = [200020, 199999],
            PadTokenId = 199999,
        },
        ["gemma2-2b"] = Gemma2(hidden: 2304, intermediate: 9216, layers: 26, heads: 8, keyValueHeads: 4),
        ["gemma2-9b"] = Gemma2(hidden: 3584, intermediate: 14336, layers: 42, heads: 16, keyValueHeads: 8),
        ["gemma3-270m"] = Gemma3(hidden: 640, intermediate: 2048, layers: 18),
        ["gemma3-1b"] = Gemma3(hidden: 1152, intermediate: 6912, layers: 26),
        ["smollm3-3b"] = new()
        {
            Architecture = "SmolLM3ForCausalLM",
            HiddenSize = 2048,
            IntermediateSize = 11008,
            LayerCount = 36,
            HeadCount = 16,
            KeyValueHeadCount = 4,
            HeadSize = 128,
            VocabularySize = 128256,
            ContextLength = 65536,
            RmsNormEpsilon = 1e-6,
            Rope = new RotaryEmbedding(5000000),
            RotaryPattern = [true, true, true, false],
            TieWordEmbeddings = true,
            BosTokenId = 128000,
            EosTokenIds = [128012],
            PadTokenId = 128004,
        },
        ["olmo2-1b"] = new()
        {
            Architecture = "Olmo2ForCausalLM",
            HiddenSize = 2048,
            IntermediateSize = 8192,
            LayerCount = 16,
            HeadCount = 16,
            KeyValueHeadCount = 16,
            HeadSize = 128,
            VocabularySize = 100352,
            ContextLength = 4096,
            RmsNormEpsilon = 1e-6,
            Rope = new RotaryEmbedding(500000),
            BosTokenId = 100257,
            EosTokenIds = [100257],
            PadTokenId = 100277,
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
        Rope = new RotaryEmbedding(1000000),
        TieWordEmbeddings = tied,
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
        Rope = new RotaryEmbedding(500000),
        BosTokenId = 128000,
        EosTokenIds = [128001],
    };

    private static HfConfig Phi3(int heads, int keyValueHeads, int headSize) => new()
    {
        Architecture = "Phi3ForCausalLM",
        HiddenSize = 3072,
        IntermediateSize = 8192,
        LayerCount = 32,
        HeadCount = heads,
        KeyValueHeadCount = keyValueHeads,
        HeadSize = headSize,
        VocabularySize = 0,
        ContextLength = 0,
        RmsNormEpsilon = 1e-5,
        EosTokenIds = [],
    };

    private static HfConfig Gemma2(int hidden, int intermediate, int layers, int heads, int keyValueHeads) => new()
    {
        Architecture = "Gemma2ForCausalLM",
        HiddenSize = hidden,
        IntermediateSize = intermediate,
        LayerCount = layers,
        HeadCount = heads,
        KeyValueHeadCount = keyValueHeads,
        HeadSize = 256,
        VocabularySize = 256000,
        ContextLength = 8192,
        RmsNormEpsilon = 1e-6,
        Activation = GateActivation.GeluTanh,
        AttentionScale = 1.0 / 16,
        AttentionSoftcap = 50,
        LogitSoftcap = 30,
        SlidingWindow = 4096,
        WindowPattern = [true, false],
        TieWordEmbeddings = true,
        BosTokenId = 2,
        EosTokenIds = [1, 107],
        PadTokenId = 0,
    };

    private static HfConfig Gemma3(int hidden, int intermediate, int layers) =>
        Gemma2(hidden, intermediate, layers, heads: 4, keyValueHeads: 1) with
        {
            Architecture = "Gemma3ForCausalLM",
            VocabularySize = 262144,
            ContextLength = 32768,
            Rope = new RotaryEmbedding(1000000),
            LocalRope = new RotaryEmbedding(10000),
            AttentionSoftcap = 0,
            LogitSoftcap = 0,
            SlidingWindow = 512,
            WindowPattern = [true, true, true, true, true, false],
            EosTokenIds = [1, 106],
        };
}
