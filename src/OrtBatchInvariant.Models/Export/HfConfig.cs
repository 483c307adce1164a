namespace OrtBatchInvariant.Models.Export;

/// <summary>
/// Shape and arithmetic of a decoder: what <c>config.json</c> and <c>generation_config.json</c> of a Hugging Face model
/// folder say, for the families that can be exported.
/// </summary>
public sealed record HfConfig
{
    internal const int MaxLayers = 1 << 12;

    /// <summary>
    /// Model class: LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, Phi3ForCausalLM, Gemma2ForCausalLM,
    /// Gemma3ForCausalLM, Gemma3ForConditionalGeneration (its text part), SmolLM3ForCausalLM or Olmo2ForCausalLM.
    /// </summary>
    public required string Architecture { get; init; }

    /// <summary>Width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Width inside the MLP.</summary>
    public required int IntermediateSize { get; init; }

    /// <summary>Number of decoder layers.</summary>
    public required int LayerCount { get; init; }

    /// <summary>Number of query heads.</summary>
    public required int HeadCount { get; init; }

    /// <summary>Number of key and value heads; divides <see cref="HeadCount"/>.</summary>
    public required int KeyValueHeadCount { get; init; }

    /// <summary>Width of one head; even.</summary>
    public required int HeadSize { get; init; }

    /// <summary>Number of tokens in the vocabulary.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Longest sequence, in tokens; the length of the rotary caches.</summary>
    public required int ContextLength { get; init; }

    /// <summary>Added to the mean square in every norm.</summary>
    public double RmsNormEpsilon { get; init; } = 1e-6;

    /// <summary>Rotary embedding of queries and keys.</summary>
    public RotaryEmbedding Rope { get; init; } = new();

    /// <summary>Rotary embedding of the layers that have the window; null if it is that of the others.</summary>
    public RotaryEmbedding? LocalRope { get; init; }

    /// <summary>Which layers have a rotary embedding; the pattern repeats.</summary>
    public IReadOnlyList<bool> RotaryPattern { get; init; } = [true];

    /// <summary>Activation of the MLP's gate.</summary>
    public GateActivation Activation { get; init; } = GateActivation.Silu;

    /// <summary>Multiplies products of queries and keys; null is 1 / sqrt(<see cref="HeadSize"/>).</summary>
    public double? AttentionScale { get; init; }

    /// <summary>Bound c of scaled products of queries and keys x, which become c tanh(x / c); 0 is none.</summary>
    public double AttentionSoftcap { get; init; }

    /// <summary>The same of logits.</summary>
    public double LogitSoftcap { get; init; }

    /// <summary>Whether the language-model head uses the embedding's weights.</summary>
    public bool TieWordEmbeddings { get; init; }

    /// <summary>Whether q, k and v projections add a bias.</summary>
    public bool QkvBias { get; init; }

    /// <summary>Whether the attention output projection adds a bias.</summary>
    public bool OutputBias { get; init; }

    /// <summary>Whether gate, up and down projections add a bias.</summary>
    public bool MlpBias { get; init; }

    /// <summary>Number of keys that a query sees, itself included; -1 is all before it.</summary>
    public int SlidingWindow { get; init; } = -1;

    /// <summary>Which layers have the window; the pattern repeats.</summary>
    public IReadOnlyList<bool> WindowPattern { get; init; } = [true];

    /// <summary>First token of a sequence.</summary>
    public int BosTokenId { get; init; } = 1;

    /// <summary>Tokens that end a sequence; at least one.</summary>
    public required IReadOnlyList<int> EosTokenIds { get; init; }

    /// <summary>Token that fills short rows; null takes the first of <see cref="EosTokenIds"/>.</summary>
    public int? PadTokenId { get; init; }

    /// <summary>Recommended search settings.</summary>
    public GenerationDefaults Generation { get; init; } = new();

    /// <summary>GenAI's model type.</summary>
    public string GenAIModelType => Family.GenAIModelType;

    internal ModelFamily Family => ModelFamilies.Find(Architecture)
        ?? throw new ModelException($"The architecture {Architecture} cannot be exported; {ModelFamilies.Names} can.");

    internal int QuerySize => HeadCount * HeadSize;

    internal int KeyValueSize => KeyValueHeadCount * HeadSize;

    internal int WindowOf(int layer) => HasWindow(layer) ? SlidingWindow : -1;

    internal RotaryEmbedding? RopeOf(int layer) =>
        !RotaryPattern[layer % RotaryPattern.Count] ? null : HasWindow(layer) && LocalRope is { } local ? local : Rope;

    private bool HasWindow(int layer) => WindowPattern[layer % WindowPattern.Count];

    /// <summary>Reads <c>config.json</c> and, where it exists, <c>generation_config.json</c>.</summary>
    /// <param name="folder">The model folder.</param>
    /// <exception cref="ModelException">A file is missing or malformed, or asks for what the export does not do.</exception>
    public static HfConfig Load(string folder) => HfConfigReader.Read(folder);

    internal static void CheckSize(string source, string name, int value, int max)
    {
        if (value < 1 || value > max)
        {
            throw new ModelException($"{source}: {name} is {value}; it must be from 1 to {max}.");
        }
    }

    /// <summary>Checks that sizes are positive and fit together.</summary>
    /// <param name="source">What to name in the error.</param>
    internal void Validate(string source)
    {
        const int MaxSize = 1 << 24;
        (string Name, int Value, int Max)[] sizes =
        [
            ("hidden_size", HiddenSize, MaxSize), ("intermediate_size", IntermediateSize, MaxSize),
            ("num_hidden_layers", LayerCount, MaxLayers), ("num_attention_heads", HeadCount, MaxSize),
            ("num_key_value_heads", KeyValueHeadCount, MaxSize), ("head_dim", HeadSize, MaxSize),
            ("vocab_size", VocabularySize, MaxSize), ("max_position_embeddings", ContextLength, MaxSize),
        ];
        foreach (var (name, value, max) in sizes)
        {
            CheckSize(source, name, value, max);
        }

        if (RotaryPattern.Count == 0 || WindowPattern.Count == 0)
        {
            throw new ModelException($"{source}: the pattern of rotary or of windowed layers is empty.");
        }

        if (HeadCount % KeyValueHeadCount != 0)
        {
            throw new ModelException(
                $"{source}: num_attention_heads {HeadCount} is not a multiple of num_key_value_heads {KeyValueHeadCount}.");
        }

        if (HeadSize % 2 != 0)
        {
            throw new ModelException($"{source}: head_dim {HeadSize} is odd; rotary embeddings need an even one.");
        }

        if (((long)HeadCount + (2L * KeyValueHeadCount)) * HeadSize > MaxSize)
        {
            throw new ModelException($"{source}: {HeadCount} heads of {HeadSize} exceed the {MaxSize} columns a projection may have.");
        }

        if ((long)ContextLength * HeadSize > 1 << 29)
        {
            throw new ModelException($"{source}: rotary caches of {ContextLength} positions and heads of {HeadSize} are too large.");
        }

        if (EosTokenIds.Count == 0)
        {
            throw new ModelException($"{source}: no eos_token_id; add it to config.json or generation_config.json.");
        }

        if (!(RmsNormEpsilon >= 0))
        {
            throw new ModelException($"{source}: rms_norm_eps {RmsNormEpsilon} is out of range.");
        }

        if (SlidingWindow is < 1 and not -1)
        {
            throw new ModelException($"{source}: sliding_window is {SlidingWindow}; it must be 1 or more.");
        }

        var factorsAreSane = AttentionScale is not { } scale || (scale > 0 && double.IsFinite(scale));
        if (!factorsAreSane || !(AttentionSoftcap >= 0) || !(LogitSoftcap >= 0))
        {
            throw new ModelException($"{source}: query_pre_attn_scalar or a softcap is out of range.");
        }

        Rope.Validate(source, HeadSize);
        LocalRope?.Validate(source, HeadSize);
        _ = Family;
    }
}
