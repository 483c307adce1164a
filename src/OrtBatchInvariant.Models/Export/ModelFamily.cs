namespace OrtBatchInvariant.Models.Export;

/// <summary>Where a block has its norms: before it, after it (on what it adds to the residual stream), or both.</summary>
internal enum NormPlacement
{
    Before,
    After,
    BeforeAndAfter,
}

/// <summary>What one norm of queries and keys spans.</summary>
internal enum QueryKeyNorm
{
    None,
    EachHead,
    WholeProjection,
}

/// <summary>Whether projections add a bias.</summary>
internal enum BiasRule
{
    Never,
    AsConfigured,
    Always,
}

/// <summary>Whether <c>sliding_window</c> is looked at: not at all, always, or where <c>use_sliding_window</c> is true.</summary>
internal enum WindowRule
{
    Never,
    Always,
    IfUsed,
}

/// <summary>
/// What the models of one class have in common: how a block is put together, and how <c>config.json</c> is read.
/// </summary>
internal sealed record ModelFamily
{
    /// <summary>Name in <c>architectures</c>.</summary>
    public required string Architecture { get; init; }

    /// <summary>The <c>type</c> of <c>genai_config.json</c>; one that GenAI 0.15.2 knows.</summary>
    public required string GenAIModelType { get; init; }

    /// <summary>Fields that the class fills in where <c>config.json</c> leaves them out; a JSON object.</summary>
    public string Defaults { get; init; } = "{}";

    /// <summary>Whether it is the text part of a model that sees images too: <c>text_config</c> describes it.</summary>
    public bool IsTextOfVisionModel { get; init; }

    public NormPlacement Norms { get; init; } = NormPlacement.Before;

    /// <summary>Added to every norm's weight.</summary>
    public float NormWeightOffset { get; init; }

    /// <summary>Whether residual stream and norms stay in fp32 when the rest is in fp16 or bf16.</summary>
    public bool KeepsResidualInFp32 { get; init; }

    public QueryKeyNorm QueryKeyNorm { get; init; } = QueryKeyNorm.None;

    /// <summary>Whether the embedding is multiplied by the square root of the hidden size.</summary>
    public bool ScalesEmbedding { get; init; }

    /// <summary>Whether the checkpoint holds q, k, v as <c>qkv_proj</c> and gate, up as <c>gate_up_proj</c>.</summary>
    public bool HasFusedProjections { get; init; }

    /// <summary>Whether <c>partial_rotary_factor</c> may be below 1.</summary>
    public bool CanRotatePartially { get; init; }

    /// <summary>Key of the base frequency of windowed layers; null if all layers share one.</summary>
    public string? LocalThetaKey { get; init; }

    public WindowRule Window { get; init; } = WindowRule.Never;

    public BiasRule QkvBias { get; init; } = BiasRule.Never;

    public BiasRule OutputBias { get; init; } = BiasRule.Never;

    public BiasRule MlpBias { get; init; } = BiasRule.Never;

    /// <summary>Names of the norm before attention, after it, before the MLP and after it; null where there is none.</summary>
    public (string? BeforeAttention, string? AfterAttention, string? BeforeMlp, string? AfterMlp) NormNames => Norms switch
    {
        NormPlacement.Before => ("input_layernorm", null, "post_attention_layernorm", null),
        NormPlacement.After => (null, "post_attention_layernorm", null, "post_feedforward_layernorm"),
        _ => ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
    };
}
