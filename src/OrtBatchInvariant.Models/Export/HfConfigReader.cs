namespace OrtBatchInvariant.Models.Export;

/// <summary>Turns <c>config.json</c> into an <see cref="HfConfig"/>, or refuses what the exported graph would not compute.</summary>
internal static class HfConfigReader
{
    public static HfConfig Read(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new ModelException($"{folder}: no such folder.");
        }

        using var document = JsonFields.Open(Path.Combine(folder, "config.json"), isRequired: true)!;
        using var generationDocument = JsonFields.Open(Path.Combine(folder, "generation_config.json"), isRequired: false);
        var generation = generationDocument?.Root;
        var family = ReadFamily(document.Root);
        var root = document.Root;
        var config = (family.IsTextOfVisionModel ? root.Object("text_config") : root).WithDefaults(family.Defaults);
        RefuseUnsupported(root);
        RefuseUnsupported(config);

        var hiddenSize = config.Int("hidden_size");
        var headCount = config.Int("num_attention_heads");
        var layerCount = config.Int("num_hidden_layers");
        HfConfig.CheckSize(config.Source, "num_hidden_layers", layerCount, HfConfig.MaxLayers);
        var (rope, localRope) = HfRopeReader.Read(config, family);
        var rotary = HfLayerReader.ReadRotary(config, layerCount);
        var (window, windowPattern) = HfLayerReader.ReadWindow(config, family, layerCount, rotary);
        var result = new HfConfig
        {
            Architecture = family.Architecture,
            HiddenSize = hiddenSize,
            IntermediateSize = config.Int("intermediate_size"),
            LayerCount = layerCount,
            HeadCount = headCount,
            KeyValueHeadCount = config.OptionalInt("num_key_value_heads") ?? headCount,
            HeadSize = config.OptionalInt("head_dim") ?? HeadSizeOf(config, hiddenSize, headCount),
            VocabularySize = config.Int("vocab_size"),
            ContextLength = config.Int("max_position_embeddings"),
            RmsNormEpsilon = config.OptionalDouble("rms_norm_eps") ?? 1e-6,
            Rope = rope,
            LocalRope = localRope,
            RotaryPattern = rotary,
            SlidingWindow = window,
            WindowPattern = windowPattern,
            Activation = ReadActivation(config),
            AttentionScale = config.OptionalDouble("query_pre_attn_scalar") is { } scalar ? 1 / Math.Sqrt(scalar) : null,
            AttentionSoftcap = config.OptionalDouble("attn_logit_softcapping") ?? 0,
            LogitSoftcap = config.OptionalDouble("final_logit_softcapping") ?? 0,
            TieWordEmbeddings = config.OptionalBool("tie_word_embeddings") ?? false,
            QkvBias = HasBias(family.QkvBias, config, "attention_bias"),
            OutputBias = HasBias(family.OutputBias, config, "attention_bias"),
            MlpBias = HasBias(family.MlpBias, config, "mlp_bias"),
            BosTokenId = generation?.OptionalInt("bos_token_id") ?? root.OptionalInt("bos_token_id") ?? config.OptionalInt("bos_token_id") ?? 1,
            EosTokenIds = generation?.OptionalInts("eos_token_id") ?? root.OptionalInts("eos_token_id") ?? config.OptionalInts("eos_token_id") ?? [],
            PadTokenId = generation?.OptionalInt("pad_token_id") ?? root.OptionalInt("pad_token_id") ?? config.OptionalInt("pad_token_id"),
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

    private static ModelFamily ReadFamily(JsonFields config)
    {
        foreach (var key in (string[])["num_local_experts", "num_experts", "n_routed_experts"])
        {
            if (config.OptionalInt(key) is > 1 and var experts)
            {
                throw config.Error($"describes a mixture of experts ({key} is {experts}), which cannot be exported");
            }
        }

        var architecture = config.OptionalStrings("architectures")?.FirstOrDefault()
            ?? throw config.Error("names no architecture");
        return ModelFamilies.Find(architecture)
            ?? throw config.Error($"names the architecture {architecture}; {ModelFamilies.Names} can be exported");
    }

    private static void RefuseUnsupported(JsonFields config)
    {
        if (config.OptionalObject("quantization_config") is { } quantization)
        {
            var method = quantization.OptionalString("quant_method") ?? "an unnamed method";
            throw config.Error($"says the weights are already quantized ({method}); only F32, F16 and BF16 weights can be exported");
        }

        if (config.OptionalBool("use_bidirectional_attention") ?? false)
        {
            throw config.Error("asks for attention in both directions; only causal attention can be exported");
        }
    }

    private static GateActivation ReadActivation(JsonFields config)
    {
        var name = config.OptionalString("hidden_activation") ?? config.OptionalString("hidden_act") ?? "silu";
        return name switch
        {
            "silu" or "swish" => GateActivation.Silu,
            "gelu" => GateActivation.Gelu,
            "gelu_pytorch_tanh" or "gelu_new" => GateActivation.GeluTanh,
            _ => throw config.Error($"asks for the activation '{name}'; only silu, gelu and gelu_pytorch_tanh can be exported"),
        };
    }

    private static bool HasBias(BiasRule rule, JsonFields config, string key) => rule switch
    {
        BiasRule.Always => true,
        BiasRule.AsConfigured => config.OptionalBool(key) ?? false,
        _ => false,
    };

    private static int HeadSizeOf(JsonFields config, int hiddenSize, int headCount) =>
        headCount > 0 && hiddenSize % headCount == 0
            ? hiddenSize / headCount
            : throw config.Error($"has no head_dim, and hidden_size {hiddenSize} is not a multiple of num_attention_heads {headCount}");
}
