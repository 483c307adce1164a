namespace OrtBatchInvariant.Models.Export;

/// <summary>
/// Shape and arithmetic of a decoder: what <c>config.json</c> and <c>generation_config.json</c> of a Hugging Face model
/// folder say, for the families that can be exported.
/// </summary>
public sealed record HfConfig
{
    /// <summary>Model class: LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM or Qwen3ForCausalLM.</summary>
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

    /// <summary>Base of the rotary frequencies.</summary>
    public double RopeTheta { get; init; } = 10000;

    /// <summary>Scaling of the rotary frequencies, or null.</summary>
    public RopeScaling? RopeScaling { get; init; }

    /// <summary>Whether the language-model head uses the embedding's weights.</summary>
    public bool TieWordEmbeddings { get; init; }

    /// <summary>Whether q, k and v projections add a bias.</summary>
    public bool QkvBias { get; init; }

    /// <summary>Whether the attention output projection adds a bias.</summary>
    public bool OutputBias { get; init; }

    /// <summary>Whether gate, up and down projections add a bias.</summary>
    public bool MlpBias { get; init; }

    /// <summary>Whether queries and keys pass a norm per head before the rotary embedding.</summary>
    public bool QkNorm { get; init; }

    /// <summary>Number of keys that a query sees, itself included; -1 is all before it.</summary>
    public int SlidingWindow { get; init; } = -1;

    /// <summary>First token of a sequence.</summary>
    public int BosTokenId { get; init; } = 1;

    /// <summary>Tokens that end a sequence; at least one.</summary>
    public required IReadOnlyList<int> EosTokenIds { get; init; }

    /// <summary>Token that fills short rows; null takes the first of <see cref="EosTokenIds"/>.</summary>
    public int? PadTokenId { get; init; }

    /// <summary>Recommended search settings.</summary>
    public GenerationDefaults Generation { get; init; } = new();

    /// <summary>GenAI's model type: the architecture without <c>ForCausalLM</c>, in lower case.</summary>
    public string GenAIModelType => Architecture.Replace("ForCausalLM", string.Empty, StringComparison.Ordinal).ToLowerInvariant();

    internal int QuerySize => HeadCount * HeadSize;

    internal int KeyValueSize => KeyValueHeadCount * HeadSize;

    /// <summary>Reads <c>config.json</c> and, where it exists, <c>generation_config.json</c>.</summary>
    /// <param name="folder">The model folder.</param>
    /// <exception cref="ModelException">A file is missing or malformed, or asks for what the export does not do.</exception>
    public static HfConfig Load(string folder) => HfConfigReader.Read(folder);

    /// <summary>Checks that sizes are positive and fit together.</summary>
    /// <param name="source">What to name in the error.</param>
    internal void Validate(string source)
    {
        const int MaxSize = 1 << 24;
        const int MaxLayers = 1 << 12;
        (string Name, int Value, int Max)[] sizes =
        [
            ("hidden_size", HiddenSize, MaxSize), ("intermediate_size", IntermediateSize, MaxSize),
            ("num_hidden_layers", LayerCount, MaxLayers), ("num_attention_heads", HeadCount, MaxSize),
            ("num_key_value_heads", KeyValueHeadCount, MaxSize), ("head_dim", HeadSize, MaxSize),
            ("vocab_size", VocabularySize, MaxSize), ("max_position_embeddings", ContextLength, MaxSize),
        ];
        foreach (var (name, value, max) in sizes)
        {
            if (value < 1 || value > max)
            {
                throw new ModelException($"{source}: {name} is {value}; it must be from 1 to {max}.");
            }
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

        if (!(RmsNormEpsilon >= 0) || !(RopeTheta > 0) || !double.IsFinite(RopeTheta))
        {
            throw new ModelException($"{source}: rms_norm_eps {RmsNormEpsilon} or rope_theta {RopeTheta} is out of range.");
        }

        var scalingIsSane = RopeScaling is not { } rope
            || (rope.Factor > 0
                && rope.LowFrequencyFactor > 0
                && rope.HighFrequencyFactor > rope.LowFrequencyFactor
                && rope.OriginalContextLength > 0);
        if (!scalingIsSane)
        {
            throw new ModelException($"{source}: rope scaling of type llama3 has factors out of range.");
        }
    }
}
