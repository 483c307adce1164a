namespace OrtBatchInvariant.Models.Export;

/// <summary>The families that can be exported, by architecture.</summary>
internal static class ModelFamilies
{
    private static readonly ModelFamily _llama = new()
    {
        Architecture = "LlamaForCausalLM",
        GenAIModelType = "llama",
        Defaults = """{"eos_token_id": 2}""",
        QkvBias = BiasRule.AsConfigured,
        OutputBias = BiasRule.AsConfigured,
        MlpBias = BiasRule.AsConfigured,
    };

    private static readonly ModelFamily _qwen2 = new()
    {
        Architecture = "Qwen2ForCausalLM",
        GenAIModelType = "qwen2",
        Defaults = """{"num_key_value_heads": 32, "max_window_layers": 28}""",
        Window = WindowRule.IfUsed,
        QkvBias = BiasRule.Always,
    };

    private static readonly ModelFamily _gemma2 = new()
    {
        Architecture = "Gemma2ForCausalLM",
        GenAIModelType = "gemma2",
        Defaults = """
            {
              "num_key_value_heads": 4, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": true,
              "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
              "sliding_window": 4096, "sliding_window_pattern": 2, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0
            }
            """,
        Norms = NormPlacement.BeforeAndAfter,
        NormWeightOffset = 1,
        KeepsResidualInFp32 = true,
        ScalesEmbedding = true,
        Window = WindowRule.Always,
        QkvBias = BiasRule.AsConfigured,
        OutputBias = BiasRule.AsConfigured,
    };

    private static readonly ModelFamily _gemma3 = _gemma2 with
    {
        Architecture = "Gemma3ForCausalLM",
        GenAIModelType = "gemma3_text",
        Defaults = """
            {
              "vocab_size": 262208, "max_position_embeddings": 131072, "num_attention_heads": 8, "num_key_value_heads": 4,
              "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": true,
              "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6,
              "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0
            }
            """,
        QueryKeyNorm = QueryKeyNorm.EachHead,
        LocalThetaKey = "rope_local_base_freq",
    };

    private static readonly ModelFamily[] _all =
    [
        _llama,
        new()
        {
            Architecture = "MistralForCausalLM",
            GenAIModelType = "mistral",
            Defaults = """{"num_key_value_heads": 8, "sliding_window": 4096, "eos_token_id": 2}""",
            Window = WindowRule.Always,
        },
        _qwen2,
        _qwen2 with
        {
            Architecture = "Qwen3ForCausalLM",
            GenAIModelType = "qwen3",
            Defaults = """{"num_key_value_heads": 32, "max_window_layers": 28, "head_dim": 128}""",
            QueryKeyNorm = QueryKeyNorm.EachHead,
            QkvBias = BiasRule.AsConfigured,
            OutputBias = BiasRule.AsConfigured,
        },
        new()
        {
            Architecture = "Phi3ForCausalLM",
            GenAIModelType = "phi3",
            Defaults = """
                {"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096, "eos_token_id": 32000, "pad_token_id": 32000}
                """,
            HasFusedProjections = true,
            CanRotatePartially = true,
            Window = WindowRule.Always,
        },
        _gemma2,
        _gemma3,
        _gemma3 with { Architecture = "Gemma3ForConditionalGeneration", IsTextOfVisionModel = true },
        _llama with
        {
            Architecture = "SmolLM3ForCausalLM",
            GenAIModelType = "smollm3",
            Defaults = """
                {
                  "num_key_value_heads": 4, "rope_theta": 2000000.0, "no_rope_layer_interval": 4, "tie_word_embeddings": true,
                  "bos_token_id": 128000, "eos_token_id": 128001, "pad_token_id": 128004
                }
                """,
            Window = WindowRule.IfUsed,
        },
        new()
        {
            Architecture = "Olmo2ForCausalLM",

            // GenAI has no type of its own for it, and treats all decoders of this kind alike.
            GenAIModelType = "olmo",
            Defaults = """{"rms_norm_eps": 1e-5, "eos_token_id": 50279, "pad_token_id": 1}""",
            Norms = NormPlacement.After,
            QueryKeyNorm = QueryKeyNorm.WholeProjection,
            QkvBias = BiasRule.AsConfigured,
            OutputBias = BiasRule.AsConfigured,
        },
    ];

    /// <summary>The family of an architecture; null if it cannot be exported.</summary>
    public static ModelFamily? Find(string architecture) => Array.Find(_all, family => family.Architecture == architecture);

    /// <summary>The architectures, for errors.</summary>
    public static string Names => string.Join(", ", _all.Select(family => family.Architecture));
}
