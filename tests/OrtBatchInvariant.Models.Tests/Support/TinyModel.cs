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

    public double Epsilon { get; init; } = 1e-5;

    public double Theta { get; init; } = 10000;

    /// <summary>Factor, low and high frequency factor, original context length.</summary>
    public (double Factor, double Low, double High, int Original)? Llama3Rope { get; init; }

    public bool Tied { get; init; }

    public bool QkvBias { get; init; }

    public bool OutputBias { get; init; }

    public bool MlpBias { get; init; }

    public bool QkNorm { get; init; }

    public int? Window { get; init; }

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
            yield return ($"{layer}input_layernorm.weight", [Hidden]);
            yield return ($"{layer}post_attention_layernorm.weight", [Hidden]);
            foreach (var (name, rows, columns, bias) in ((string, int, int, bool)[])
                [
                    ("self_attn.q_proj", q, Hidden, QkvBias), ("self_attn.k_proj", kv, Hidden, QkvBias),
                    ("self_attn.v_proj", kv, Hidden, QkvBias), ("self_attn.o_proj", Hidden, q, OutputBias),
                    ("mlp.gate_proj", Intermediate, Hidden, MlpBias), ("mlp.up_proj", Intermediate, Hidden, MlpBias),
                    ("mlp.down_proj", Hidden, Intermediate, MlpBias),
                ])
            {
                yield return ($"{layer}{name}.weight", [rows, columns]);
                if (bias)
                {
                    yield return ($"{layer}{name}.bias", [rows]);
                }
            }

            if (QkNorm)
            {
                yield return ($"{layer}self_attn.q_norm.weight", [HeadSize]);
                yield return ($"{layer}self_attn.k_norm.weight", [HeadSize]);
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
                values[i] = SafeTensorsWriter.Rounded(DataType, (float)((isNorm ? 1 : 0) + (deviation * normal)));
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
            ["hidden_act"] = "silu",
            ["tie_word_embeddings"] = Tied,
            ["bos_token_id"] = 1,
            ["eos_token_id"] = 2,
            ["sliding_window"] = Window,
        };
        if (Architecture is "LlamaForCausalLM" or "Qwen3ForCausalLM")
        {
            config["attention_bias"] = QkvBias;
        }

        if (Architecture == "LlamaForCausalLM")
        {
            config["mlp_bias"] = MlpBias;
        }

        if (Llama3Rope is { } rope)
        {
            config["rope_scaling"] = new JsonObject
            {
                ["rope_type"] = "llama3",
                ["factor"] = rope.Factor,
                ["low_freq_factor"] = rope.Low,
                ["high_freq_factor"] = rope.High,
                ["original_max_position_embeddings"] = rope.Original,
            };
        }

        return config;
    }
}
