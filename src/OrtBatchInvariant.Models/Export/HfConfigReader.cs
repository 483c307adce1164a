using System.Text.Json;

namespace OrtBatchInvariant.Models.Export;

/// <summary>Turns <c>config.json</c> into an <see cref="HfConfig"/>, or refuses what the exported graph would not compute.</summary>
internal static class HfConfigReader
{
    private const string LlamaArchitecture = "LlamaForCausalLM";
    private const string MistralArchitecture = "MistralForCausalLM";
    private const string Qwen2Architecture = "Qwen2ForCausalLM";
    private const string Qwen3Architecture = "Qwen3ForCausalLM";

    public static HfConfig Read(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new ModelException($"{folder}: no such folder.");
        }

        using var document = JsonFields.Open(Path.Combine(folder, "config.json"), isRequired: true)!;
        using var generationDocument = JsonFields.Open(Path.Combine(folder, "generation_config.json"), isRequired: false);
        var config = document.Root;
        var generation = generationDocument?.Root;

        var architecture = ReadArchitecture(config);
        var isLlama = architecture == LlamaArchitecture;
        var isMistral = architecture == MistralArchitecture;
        var isQwen2 = architecture == Qwen2Architecture;
        var isQwen3 = architecture == Qwen3Architecture;
        RefuseUnsupported(config);

        var hiddenSize = config.Int("hidden_size");
        var headCount = config.Int("num_attention_heads");
        var contextLength = config.Int("max_position_embeddings");
        var layerCount = config.Int("num_hidden_layers");
        var hasAttentionBias = (isLlama || isQwen3) && (config.OptionalBool("attention_bias") ?? false);
        var rope = config.OptionalObject("rope_parameters") ?? config.OptionalObject("rope_scaling");
        var result = new HfConfig
        {
            Architecture = architecture,
            HiddenSize = hiddenSize,
            IntermediateSize = config.Int("intermediate_size"),
            LayerCount = layerCount,
            HeadCount = headCount,
            KeyValueHeadCount = isLlama ? config.OptionalInt("num_key_value_heads") ?? headCount : config.Int("num_key_value_heads"),
            HeadSize = config.OptionalInt("head_dim") ?? (isQwen3 ? 128 : HeadSizeOf(config, hiddenSize, headCount)),
            VocabularySize = config.Int("vocab_size"),
            ContextLength = contextLength,
            RmsNormEpsilon = config.OptionalDouble("rms_norm_eps") ?? 1e-6,
            RopeTheta = config.OptionalDouble("rope_theta") ?? rope?.OptionalDouble("rope_theta") ?? 10000,
            RopeScaling = rope is null ? null : ReadRopeScaling(config, rope),
            TieWordEmbeddings = config.OptionalBool("tie_word_embeddings") ?? false,
            QkvBias = hasAttentionBias || isQwen2,
            OutputBias = hasAttentionBias,
            MlpBias = isLlama && (config.OptionalBool("mlp_bias") ?? false),
            QkNorm = isQwen3,
            SlidingWindow = isMistral ? MistralWindow(config) : isLlama ? -1 : QwenWindow(config, layerCount),
            BosTokenId = Token(config, generation, "bos_token_id") ?? 1,
            EosTokenIds = EosTokens(config, generation, isLlama || isMistral),
            PadTokenId = Token(config, generation, "pad_token_id"),
            Generation = new GenerationDefaults
            {
                DoSample = generation?.OptionalBool("do_sample") ?? config.OptionalBool("do_sample") ?? false,
                Temperature = generation?.OptionalDouble("temperature") ?? config.OptionalDouble("temperature") ?? 1.0,
                TopK = generation?.OptionalInt("top_k") ?? config.OptionalInt("top_k") ?? 50,
                TopP = generation?.OptionalDouble("top_p") ?? config.OptionalDouble("top_p") ?? 1.0,
                RepetitionPenalty = config.OptionalDouble("repetition_penalty") ?? 1.0,
            },
        };
        result.Validate(config.Source);
        return result;
    }

    private static string ReadArchitecture(JsonFields config)
    {
        var architecture = config.OptionalStrings("architectures")?.FirstOrDefault()
            ?? throw config.Error("names no architecture");
        return architecture is LlamaArchitecture or MistralArchitecture or Qwen2Architecture or Qwen3Architecture
            ? architecture
            : throw config.Error(
                $"names the architecture {architecture}; "
                + $"{LlamaArchitecture}, {MistralArchitecture}, {Qwen2Architecture} and {Qwen3Architecture} can be exported");
    }

    private static void RefuseUnsupported(JsonFields config)
    {
        if (config.OptionalObject("quantization_config") is { } quantization)
        {
            var method = quantization.OptionalString("quant_method") ?? "an unnamed method";
            throw config.Error($"says the weights are already quantized ({method}); only F32, F16 and BF16 weights can be exported");
        }

        var activation = config.OptionalString("hidden_act") ?? "silu";
        if (activation is not ("silu" or "swish"))
        {
            throw config.Error($"asks for the activation '{activation}'; only silu can be exported");
        }

        if (config.OptionalDouble("partial_rotary_factor") is { } factor && factor != 1.0)
        {
            throw config.Error($"asks for a partial_rotary_factor of {factor}; only 1 can be exported");
        }
    }

    private static int HeadSizeOf(JsonFields config, int hiddenSize, int headCount) =>
        headCount > 0 && hiddenSize % headCount == 0
            ? hiddenSize / headCount
            : throw config.Error($"has no head_dim, and hidden_size {hiddenSize} is not a multiple of num_attention_heads {headCount}");

    private static RopeScaling? ReadRopeScaling(JsonFields config, JsonFields rope)
    {
        var type = rope.OptionalString("rope_type") ?? rope.OptionalString("type") ?? "default";
        return type switch
        {
            "default" => null,
            "llama3" => new RopeScaling(
                rope.Double("factor"),
                rope.Double("low_freq_factor"),
                rope.Double("high_freq_factor"),
                config.OptionalInt("original_max_position_embeddings") ?? rope.Int("original_max_position_embeddings")),
            _ => throw config.Error($"asks for rope scaling of type '{type}'; only default and llama3 can be exported"),
        };
    }

    private static int MistralWindow(JsonFields config)
    {
        // The model class's own default, for files that leave the key out; null switches the window off.
        const int Default = 4096;
        return config.Has("sliding_window") ? config.OptionalInt("sliding_window") ?? -1 : Default;
    }

    private static int QwenWindow(JsonFields config, int layerCount)
    {
        if (!(config.OptionalBool("use_sliding_window") ?? false) || config.OptionalInt("sliding_window") is not { } window)
        {
            return -1;
        }

        var windowed = config.OptionalStrings("layer_types") is { } types
            ? types.Count(type => type == "sliding_attention")
            : layerCount - Math.Clamp(config.OptionalInt("max_window_layers") ?? 28, 0, layerCount);
        return windowed switch
        {
            0 => -1,
            _ when windowed == layerCount => window,
            _ => throw config.Error(
                $"gives {windowed} of {layerCount} layers a sliding window; only all layers or none can be exported"),
        };
    }

    private static int? Token(JsonFields config, JsonFields? generation, string key) =>
        generation?.OptionalInt(key) ?? config.OptionalInt(key);

    private static IReadOnlyList<int> EosTokens(JsonFields config, JsonFields? generation, bool hasClassDefault)
    {
        const int ClassDefault = 2;
        return generation?.OptionalInts("eos_token_id")
            ?? config.OptionalInts("eos_token_id")
            ?? (hasClassDefault && !config.Has("eos_token_id") ? [ClassDefault] : []);
    }
}
