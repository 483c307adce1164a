namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>A small model of each family, and variants that between them use every feature.</summary>
internal static class TinyModels
{
    private static readonly TinyModel _qwen3 = new() { Architecture = "Qwen3ForCausalLM", QkNorm = true, HeadSize = 32, Theta = 1e6 };

    private static readonly TinyModel _phi3 = new() { Architecture = "Phi3ForCausalLM", Fused = true };

    private static readonly TinyModel _gemma2 = new()
    {
        Architecture = "Gemma2ForCausalLM",
        Norms = TinyNorms.Both,
        NormOffset = 1,
        ScaledEmbedding = true,
        Tied = true,
        Activation = "gelu_pytorch_tanh",
        AttentionScalar = 24,
        AttentionCap = 1.5,
        LogitCap = 2,
        Window = 6,
        Windowed = [true, false],
        Epsilon = 1e-6,
    };

    private static readonly TinyModel _gemma3 = _gemma2 with
    {
        Architecture = "Gemma3ForCausalLM",
        QkNorm = true,
        AttentionCap = null,
        LogitCap = null,
        Layers = 3,
        Windowed = [true, true, false],
        Theta = 1e6,
        LocalTheta = 1e4,
    };

    private static readonly TinyModel _olmo2 = new() { Architecture = "Olmo2ForCausalLM", Norms = TinyNorms.After, WholeQkNorm = true };

    private static readonly Dictionary<string, TinyModel> _all = new()
    {
        ["llama untied"] = new TinyModel(),
        ["llama tied bf16"] = new TinyModel { Tied = true, DataType = "BF16", Seed = 2 },
        ["llama biases f16"] = new TinyModel { QkvBias = true, OutputBias = true, MlpBias = true, DataType = "F16", Seed = 3 },
        ["llama rope scaling"] = new TinyModel { Llama3Rope = (8, 1, 4, 32), Theta = 500, Seed = 4 },
        ["llama linear rope, short context"] = new TinyModel { LinearRope = 4, ExportContext = 24, Seed = 11 },
        ["llama one kv head"] = new TinyModel { KeyValueHeads = 1, Layers = 3, Seed = 5 },
        ["mistral window"] = new TinyModel { Architecture = "MistralForCausalLM", Window = 6, Seed = 6 },
        ["qwen2 biases"] = new TinyModel { Architecture = "Qwen2ForCausalLM", QkvBias = true, Tied = true, Epsilon = 1e-6, Seed = 7 },
        ["qwen2 some windows"] = new TinyModel
        {
            Architecture = "Qwen2ForCausalLM", QkvBias = true, Window = 5, Windowed = [false, true], Seed = 12,
        },
        ["qwen3 tied"] = _qwen3 with { Tied = true, Seed = 8 },
        ["qwen3 untied bf16"] = _qwen3 with { HeadSize = 16, Theta = 1e4, DataType = "BF16", Seed = 9 },
        ["qwen3 biases"] = _qwen3 with { HeadSize = 16, Theta = 1e4, QkvBias = true, OutputBias = true, Layers = 1, Seed = 10 },
        ["phi3 window"] = _phi3 with { Window = 7, Seed = 13 },
        ["phi3 long"] = _phi3 with { LongRope = (Factors(8, 1.1), Factors(8, 1.9), 16), Seed = 14 },
        ["phi3 long, exported short"] = _phi3 with { LongRope = (Factors(8, 1.1), Factors(8, 1.9), 32), ExportContext = 32, Seed = 15 },
        ["phi4 mini"] = _phi3 with
        {
            HeadSize = 32, RotaryFactor = 0.5, Tied = true, LongRope = (Factors(8, 1.05), Factors(8, 1.4), 16), DataType = "BF16", Seed = 16,
        },
        ["gemma2"] = _gemma2 with { Seed = 17 },
        ["gemma2 bf16, wide head"] = _gemma2 with { HeadSize = 32, DataType = "BF16", Seed = 18 },
        ["gemma3"] = _gemma3 with { Seed = 19 },
        ["gemma3 linear rope, caps"] = _gemma3 with { LinearRope = 8, AttentionCap = 2, LogitCap = 3, Seed = 20 },
        ["smollm3"] = new TinyModel { Architecture = "SmolLM3ForCausalLM", Layers = 4, Tied = true, Rotary = [true, true, true, false], Seed = 21 },
        ["smollm3 windows, biases"] = new TinyModel
        {
            Architecture = "SmolLM3ForCausalLM",
            QkvBias = true,
            OutputBias = true,
            MlpBias = true,
            Rotary = [true, false],
            Window = 6,
            Windowed = [true, false],
            Seed = 22,
        },
        ["olmo2"] = _olmo2 with { Layers = 3, Seed = 23 },
        ["olmo2 biases, gelu"] = _olmo2 with { QkvBias = true, OutputBias = true, Activation = "gelu", DataType = "F16", Seed = 24 },
    };

    /// <summary>The names.</summary>
    public static IEnumerable<string> Names => _all.Keys;

    /// <summary>One for each family.</summary>
    public static IEnumerable<string> OneOfEachFamily =>
        _all.GroupBy(entry => entry.Value.Architecture).Select(family => family.First().Key);

    public static TinyModel Get(string name) => _all[name];

    private static double[] Factors(int count, double ratio) => [.. Enumerable.Range(0, count).Select(i => Math.Pow(ratio, i))];
}
