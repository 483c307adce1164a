using System.Text.Json.Nodes;

namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>A small decoder with random weights, as a Hugging Face folder and as numbers for the reference.</summary>
internal sealed record TinyModel
{
    public string Architecture { get; init; } = "LlamaForCausalLM";

    public int Hidden { get; init; } = 64;

    public int Intermediate { get; init; } = 96;

    public int Layers { get; init; } = 2;

    public int Heads { get; init; } = 4;

    public int KeyValueHeads { get; init; } = 2;

    public int HeadSize { get; init; } = 16;

    public int Vocabulary { get; init; } = 80;

    public int Context { get; init; } = 64;

    /// <summary>Context length to export for; the model's own if null.</summary>
    public int? ExportContext { get; init; }

    public double Epsilon { get; init; } = 1e-5;

    public double Theta { get; init; } = 10000;

    /// <summary>Factor, low and high frequency factor, original context length.</summary>
    public (double Factor, double Low, double High, int Original)? Llama3Rope { get; init; }

    public bool Tied { get; init; }

    public bool QkvBias { get; init; }

    public bool OutputBias { get; init; }

    public bool MlpBias { get; init; }

    /// <summary>Norm of each head's queries and keys.</summary>
    public bool QkNorm { get; init; }

    /// <summary>Norm over all heads of queries, and over all of keys.</summary>
    public bool WholeQkNorm { get; init; }

    /// <summary>Norms before the blocks, after them (OLMo 2) or both (Gemma).</summary>
    public TinyNorms Norms { get; init; } = TinyNorms.Before;

    /// <summary>Added to the weights of norms.</summary>
    public float NormOffset { get; init; }

    /// <summary>Embeddings times sqrt(hidden).</summary>
    public bool ScaledEmbedding { get; init; }

    public string Activation { get; init; } = "silu";

    /// <summary>Products of queries and keys are divided by its root instead of the head size's.</summary>
    public double? AttentionScalar { get; init; }

    public double? AttentionCap { get; init; }

    public double? LogitCap { get; init; }

    /// <summary>q, k, v in one tensor, and gate, up in one.</summary>
    public bool Fused { get; init; }

    /// <summary>Part of a head that is rotated.</summary>
    public double RotaryFactor { get; init; } = 1;

    public double? LinearRope { get; init; }

    /// <summary>Short and long factors, original context length.</summary>
    public (double[] Short, double[] Long, int Original)? LongRope { get; init; }

    /// <summary>Base frequency of windowed layers, without scaling.</summary>
    public double? LocalTheta { get; init; }

    public int? Window { get; init; }

    /// <summary>Which layers have the window; all if null.</summary>
    public bool[]? Windowed { get; init; }

    /// <summary>Which layers have a rotary embedding; all if null.</summary>
    public bool[]? Rotary { get; init; }

    public string DataType { get; init; } = "F32";

    public int Seed { get; init; } = 1;

    /// <summary>Shapes of all weights by their Hugging Face names.</summary>
    public IEnumerable<(string Name, long[] Shape)> Shapes()
    {
        yield return ("model.embed_tokens.weight", [Vocabulary, Hidden]);
        for (var i = 0; i < Layers; i++)
        {
            var layer = $"model.layers.{i}.";
            var (q, kv) = (Heads * HeadSize, KeyValueHeads * HeadSize);
            string[] norms = Norms switch
            {
                TinyNorms.Before => ["input", "post_attention"],
                TinyNorms.After => ["post_attention", "post_feedforward"],
                _ => ["input", "post_attention", "pre_feedforward", "post_feedforward"],
            };
            foreach (var norm in norms)
            {
                yield return ($"{layer}{norm}_layernorm.weight", [Hidden]);
            }

            foreach (var (name, rows, columns, bias) in ((string, int, int, bool)[])
                [
                    .. Fused
                        ? ((string, int, int, bool)[])
                        [
                            ("self_attn.qkv_proj", q + kv + kv, Hidden, false), ("mlp.gate_up_proj", 2 * Intermediate, Hidden, false),
                        ]
                        :
                        [
                            ("self_attn.q_proj", q, Hidden, QkvBias), ("self_attn.k_proj", kv, Hidden, QkvBias),
                            ("self_attn.v_proj", kv, Hidden, QkvBias),
                            ("mlp.gate_proj", Intermediate, Hidden, MlpBias), ("mlp.up_proj", Intermediate, Hidden, MlpBias),
                        ],
                    ("self_attn.o_proj", Hidden, q, OutputBias), ("mlp.down_proj", Hidden, Intermediate, MlpBias),
                ])
            {
                yield return ($"{layer}{name}.weight", [rows, columns]);
                if (bias)
                {
                    yield return ($"{layer}{name}.bias", [rows]);
                }
            }

            if (QkNorm || WholeQkNorm)
            {
                yield return ($"{layer}self_attn.q_norm.weight", [WholeQkNorm ? q : HeadSize]);
                yield return ($"{layer}self_attn.k_norm.weight", [WholeQkNorm ? kv : HeadSize]);
            }
        }

        yield return ("model.norm.weight", [Hidden]);
        if (!Tied)
        {
            yield return ("lm_head.weight", [Vocabulary, Hidden]);
        }
    }

    /// <summary>Random weights, rounded to the type they are stored in.</summary>
    public Dictionary<string, float[]> Weights()
    {
        var random = new Random(Seed);
        var weights = new Dictionary<string, float[]>();
        foreach (var (name, shape) in Shapes())
        {
            var isNorm = name.EndsWith("norm.weight", StringComparison.Ordinal);
            var deviation = shape.Length == 2 ? 1.0 / Math.Sqrt(shape[1]) : 0.2;
            var values = new float[shape.Aggregate(1L, (a, b) => a * b)];
            for (var i = 0; i < values.Length; i++)
            {
                var normal = Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
                values[i] = SafeTensorsWriter.Rounded(DataType, (float)((isNorm ? 1 - NormOffset : 0) + (deviation * normal)));
            }

            weights[name] = values;
        }

        return weights;
    }

    /// <summary>Writes config.json and the weights, in one file or in shards.</summary>
    public string WriteTo(string folder, Dictionary<string, float[]> weights, int shards = 1, Action<JsonObject>? change = null)
    {
        Directory.CreateDirectory(folder);
        var config = Config();
        change?.Invoke(config);
        File.WriteAllText(Path.Combine(folder, "config.json"), config.ToJsonString());
        var tensors = Shapes().Select(s => (s.Name, s.Shape, weights[s.Name])).ToList();
        if (shards == 1)
        {
            SafeTensorsWriter.Write(Path.Combine(folder, "model.safetensors"), DataType, tensors);
            return folder;
        }

        var map = new JsonObject();
        for (var i = 0; i < shards; i++)
        {
            var name = $"model-{i + 1:D5}-of-{shards:D5}.safetensors";
            var part = tensors.Where((_, index) => index % shards == i).ToList();
            SafeTensorsWriter.Write(Path.Combine(folder, name), DataType, part);
            part.ForEach(tensor => map[tensor.Name] = name);
        }

        File.WriteAllText(Path.Combine(folder, "model.safetensors.index.json"), new JsonObject { ["weight_map"] = map }.ToJsonString());
        return folder;
    }

    private JsonObject Config()
    {
        var config = new JsonObject
        {
            ["architectures"] = new JsonArray(Architecture),
            ["hidden_size"] = Hidden,
            ["intermediate_size"] = Intermediate,
            ["num_hidden_layers"] = Layers,
            ["num_attention_heads"] = Heads,
            ["num_key_value_heads"] = KeyValueHeads,
            ["head_dim"] = HeadSize,
            ["vocab_size"] = Vocabulary,
            ["max_position_embeddings"] = Context,
            ["rms_norm_eps"] = Epsilon,
            ["rope_theta"] = Theta,
            ["hidden_act"] = Activation,
            ["tie_word_embeddings"] = Tied,
            ["bos_token_id"] = 1,
            ["eos_token_id"] = 2,
            ["sliding_window"] = Window,
        };
        if (Architecture is not ("Qwen2ForCausalLM" or "MistralForCausalLM" or "Phi3ForCausalLM"))
        {
            config["attention_bias"] = QkvBias;
            config["mlp_bias"] = MlpBias;
        }

        if (AttentionScalar is { } scalar)
        {
            config["query_pre_attn_scalar"] = scalar;
            config["attn_logit_softcapping"] = AttentionCap;
            config["final_logit_softcapping"] = LogitCap;
        }

        if (Windowed is not null)
        {
            config["use_sliding_window"] = true;
            config["layer_types"] = new JsonArray([.. Windowed.Select(has => (JsonNode)(has ? "sliding_attention" : "full_attention"))]);
        }

        if (Rotary is not null)
        {
            config["no_rope_layers"] = new JsonArray([.. Rotary.Select(has => (JsonNode)(has ? 1 : 0))]);
        }

        WriteRope(config);
        return config;
    }

    private void WriteRope(JsonObject config)
    {
        if (RotaryFactor != 1)
        {
            config["partial_rotary_factor"] = RotaryFactor;
        }

        if (LocalTheta is { } theta)
        {
            config["rope_local_base_freq"] = theta;
        }

        if (LinearRope is { } factor)
        {
            config["rope_scaling"] = new JsonObject { ["rope_type"] = "linear", ["factor"] = factor };
        }

        if (Llama3Rope is { } llama3)
        {
            config["rope_scaling"] = new JsonObject
            {
                ["rope_type"] = "llama3",
                ["factor"] = llama3.Factor,
                ["low_freq_factor"] = llama3.Low,
                ["high_freq_factor"] = llama3.High,
                ["original_max_position_embeddings"] = llama3.Original,
            };
        }

        if (LongRope is { } longRope)
        {
            config["original_max_position_embeddings"] = longRope.Original;
            config["rope_scaling"] = new JsonObject
            {
                ["type"] = "longrope",
                ["short_factor"] = new JsonArray([.. longRope.Short.Select(x => (JsonNode)x)]),
                ["long_factor"] = new JsonArray([.. longRope.Long.Select(x => (JsonNode)x)]),
            };
        }
    }
}

/// <summary>Where blocks have norms.</summary>
internal enum TinyNorms
{
    Before,
    After,
    Both,
}
