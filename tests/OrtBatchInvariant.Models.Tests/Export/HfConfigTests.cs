using System.Text.Json.Nodes;
using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Models.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Models.Tests.Export;

public class HfConfigTests(ITestOutputHelper output)
{
    private static readonly Dictionary<string, (Action<JsonObject> Change, string Expected)> _wrong = new()
    {
        ["no architecture"] = (c => c.Remove("architectures"), "names no architecture"),
        ["another architecture"] = (c => c["architectures"] = new JsonArray("GPT2LMHeadModel"), "names the architecture GPT2LMHeadModel"),
        ["architecture a string"] = (c => c["architectures"] = "Llama", "'architectures' is \"Llama\"; it must be a list"),
        ["no hidden size"] = (c => c.Remove("hidden_size"), "'hidden_size' is missing"),
        ["hidden size a string"] = (c => c["hidden_size"] = "64", "'hidden_size' is \"64\"; it must be an integer"),
        ["hidden size a fraction"] = (c => c["hidden_size"] = 64.5, "it must be an integer"),
        ["hidden size zero"] = (c => c["hidden_size"] = 0, "hidden_size is 0"),
        ["layers negative"] = (c => c["num_hidden_layers"] = -1, "num_hidden_layers is -1"),
        ["layers beyond reason"] = (c => c["num_hidden_layers"] = 2000000000, "num_hidden_layers is 2000000000"),
        ["vocabulary beyond reason"] = (c => c["vocab_size"] = int.MaxValue, "vocab_size is 2147483647"),
        ["context beyond reason"] = (c => { c["max_position_embeddings"] = 1 << 24; c["head_dim"] = 64; }, "rotary caches of 16777216 positions"),
        ["heads not a multiple"] = (c => c["num_key_value_heads"] = 3, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ["head size odd"] = (c => c["head_dim"] = 15, "head_dim 15 is odd"),
        ["head size unknown"] = (c => { c.Remove("head_dim"); c["hidden_size"] = 65; }, "has no head_dim"),
        ["activation"] = (c => c["hidden_act"] = "relu", "activation 'relu'"),
        ["rope yarn"] = (c => c["rope_scaling"] = new JsonObject { ["rope_type"] = "yarn", ["factor"] = 2 }, "rope scaling of type 'yarn'"),
        ["rope dynamic, old key"] = (c => c["rope_scaling"] = new JsonObject { ["type"] = "dynamic" }, "rope scaling of type 'dynamic'"),
        ["rope linear without factor"] = (c => c["rope_scaling"] = new JsonObject { ["type"] = "linear" }, "'factor' is missing"),
        ["rope llama3 without factor"] = (c => c["rope_scaling"] = new JsonObject { ["rope_type"] = "llama3" }, "'factor' is missing"),
        ["rope theta zero"] = (c => c["rope_theta"] = 0, "rope_theta 0 is out of range"),
        ["partial rotary"] = (c => c["partial_rotary_factor"] = 0.5, "partial_rotary_factor of 0.5"),
        ["partial rotary, nothing left"] = (c => { c["architectures"] = new JsonArray("Phi3ForCausalLM"); c["partial_rotary_factor"] = 0.1; },
            "partial_rotary_factor 0.1 of head_dim 16"),
        ["rope longrope, too few factors"] = (c => c["rope_scaling"] = new JsonObject
        {
            ["type"] = "longrope",
            ["short_factor"] = new JsonArray(1, 1),
            ["long_factor"] = new JsonArray(1, 1, 1),
            ["original_max_position_embeddings"] = 16,
        }, "has 2 short and 3 long factors; 8 frequencies need as many"),
        ["rope longrope, factor zero"] = (c => c["rope_scaling"] = new JsonObject
        {
            ["type"] = "longrope",
            ["short_factor"] = new JsonArray(1, 1, 1, 1, 1, 1, 1, 1),
            ["long_factor"] = new JsonArray(1, 1, 1, 1, 1, 1, 1, 0),
            ["original_max_position_embeddings"] = 16,
        }, "type longrope has factors out of range"),
        ["rope factors a string"] = (c => c["rope_scaling"] = new JsonObject
        {
            ["type"] = "longrope", ["short_factor"] = "1", ["original_max_position_embeddings"] = 16,
        }, "'short_factor' is \"1\"; it must be a list of numbers"),
        ["rope linear, factor negative"] = (c => c["rope_scaling"] = new JsonObject { ["type"] = "linear", ["factor"] = -1 },
            "type linear has factors out of range"),
        ["mixture of experts"] = (c => c["num_local_experts"] = 8, "describes a mixture of experts (num_local_experts is 8)"),
        ["both directions"] = (c => c["use_bidirectional_attention"] = true, "attention in both directions"),
        ["window zero"] = (c => { c["architectures"] = new JsonArray("MistralForCausalLM"); c["sliding_window"] = 0; }, "sliding_window is 0"),
        ["layer types unknown"] = (c =>
        {
            c["architectures"] = new JsonArray("Gemma2ForCausalLM");
            c["sliding_window"] = 4;
            c["layer_types"] = new JsonArray("full_attention", "linear_attention");
        }, "has layer_types that are not 2 times sliding_attention or full_attention"),
        ["layer types too few"] = (c =>
        {
            c["architectures"] = new JsonArray("Gemma2ForCausalLM");
            c["sliding_window"] = 4;
            c["layer_types"] = new JsonArray("full_attention");
        }, "has layer_types that are not 2 times"),
        ["pattern zero"] = (c =>
        {
            c["architectures"] = new JsonArray("Gemma3ForCausalLM");
            c["sliding_window"] = 4;
            c["sliding_window_pattern"] = 0;
        }, "has a sliding_window_pattern of 0"),
        ["rotary layers too few"] = (c => c["no_rope_layers"] = new JsonArray(1), "has no_rope_layers that are not 2 times 0 or 1"),
        ["softcap negative"] = (c => c["final_logit_softcapping"] = -30, "a softcap is out of range"),
        ["attention scalar zero"] = (c => c["query_pre_attn_scalar"] = 0, "query_pre_attn_scalar or a softcap is out of range"),
        ["quantized"] = (c => c["quantization_config"] = new JsonObject { ["quant_method"] = "awq" }, "already quantized (awq)"),
        ["no end token"] = (c => c["eos_token_id"] = null, "no eos_token_id"),
        ["end token a string"] = (c => c["eos_token_id"] = "end", "'eos_token_id' is \"end\""),
        ["tied a number"] = (c => c["tie_word_embeddings"] = 1, "it must be true or false"),
    };

    public static TheoryData<string> Wrong => [.. _wrong.Keys];

    [Theory]
    [MemberData(nameof(Wrong))]
    public void WhatCannotBeExportedIsRefusedByName(string name)
    {
        var (change, expected) = _wrong[name];
        using var folder = new TemporaryFolder();
        var model = new TinyModel();
        model.WriteTo(folder["hf"], model.Weights(), change: change);
        var error = Assert.Throws<ModelException>(() => ModelExporter.Export(folder["hf"], folder["out"]));
        output.WriteLine(error.Message);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        OneSentence.Check(error, "config.json");
        Assert.Equal(["hf"], folder.Entries());
    }

    [Theory]
    [InlineData("{", "not valid JSON")]
    [InlineData("[]", "not a JSON object")]
    [InlineData(null, "no such file")]
    public void AMissingOrBrokenFileIsNamed(string? text, string expected)
    {
        using var folder = new TemporaryFolder();
        if (text is not null)
        {
            File.WriteAllText(folder["config.json"], text);
        }

        var error = Assert.Throws<ModelException>(() => HfConfig.Load(folder.Path));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        OneSentence.Check(error, "config.json");
    }

    [Theory]
    [InlineData("Qwen3ForCausalLM", false, 4, null, -1, -1)]
    [InlineData("Qwen3ForCausalLM", true, 4, 0, 4, 4)]
    [InlineData("Qwen3ForCausalLM", true, 4, 2, -1, -1)]
    [InlineData("Qwen3ForCausalLM", true, 4, 1, -1, 4)]
    [InlineData("MistralForCausalLM", false, 4, null, 4, 4)]
    [InlineData("MistralForCausalLM", false, null, null, -1, -1)]
    [InlineData("LlamaForCausalLM", false, 4, null, -1, -1)]
    [InlineData("Phi3ForCausalLM", false, 4, null, 4, 4)]
    [InlineData("Gemma2ForCausalLM", false, 4, null, 4, -1)]
    [InlineData("Gemma3ForCausalLM", false, 4, null, 4, 4)]
    [InlineData("SmolLM3ForCausalLM", false, 4, null, -1, -1)]
    [InlineData("SmolLM3ForCausalLM", true, 4, null, -1, -1)]
    [InlineData("Olmo2ForCausalLM", true, 4, null, -1, -1)]
    public void WindowsAreReadAsTheModelClassDoes(
        string architecture, bool use, int? window, int? maxWindowLayers, int firstLayer, int secondLayer)
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel { Architecture = architecture, Window = window };
        model.WriteTo(folder.Path, model.Weights(), change: c =>
        {
            c["use_sliding_window"] = use;
            if (maxWindowLayers is not null)
            {
                c["max_window_layers"] = maxWindowLayers;
            }
        });
        var config = HfConfig.Load(folder.Path);
        int WindowOf(int layer) => config.WindowPattern[layer % config.WindowPattern.Count] ? config.SlidingWindow : -1;
        Assert.Equal((firstLayer, secondLayer), (WindowOf(0), WindowOf(1)));
    }

    [Fact]
    public void LayersWithoutRotaryEmbeddingAreReadFromAListOrAnInterval()
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel { Architecture = "SmolLM3ForCausalLM", Layers = 5 };
        model.WriteTo(folder.Path, model.Weights());
        Assert.Equal([true, true, true, false], HfConfig.Load(folder.Path).RotaryPattern);

        model.WriteTo(folder.Path, model.Weights(), change: c => c["no_rope_layers"] = new JsonArray(1, 0, 0, 1, 1, 0));
        Assert.Equal([true, false, false, true, true], HfConfig.Load(folder.Path).RotaryPattern);
    }

    /// <summary>What Transformers fills in for files that leave fields out.</summary>
    [Fact]
    public void FieldsThatAreLeftOutAreThoseOfTheModelClass()
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel { Architecture = "Gemma3ForCausalLM" };
        string[] left = ["head_dim", "num_key_value_heads", "hidden_act", "sliding_window", "tie_word_embeddings", "rope_theta", "eos_token_id"];
        model.WriteTo(folder.Path, model.Weights(), change: c => Array.ForEach(left, key => c.Remove(key)));
        var config = HfConfig.Load(folder.Path);
        Assert.Equal((256, 4, 4096, true), (config.HeadSize, config.KeyValueHeadCount, config.SlidingWindow, config.TieWordEmbeddings));
        Assert.Equal((1e6, 1e4), (config.Rope.Theta, config.LocalRope!.Theta));
        Assert.Equal((GateActivation.GeluTanh, 1.0 / 16), (config.Activation, config.AttentionScale));
        Assert.Equal([1], config.EosTokenIds);
        Assert.Equal([true, true, true, true, true, false], config.WindowPattern);
    }

    [Fact]
    public void RopeParametersOfEachKindOfLayerAreRead()
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel { Architecture = "Gemma3ForCausalLM" };
        model.WriteTo(folder.Path, model.Weights(), change: c =>
        {
            c.Remove("rope_theta");
            c["rope_parameters"] = new JsonObject
            {
                ["full_attention"] = new JsonObject { ["rope_type"] = "linear", ["factor"] = 8.0, ["rope_theta"] = 5e5 },
                ["sliding_attention"] = new JsonObject { ["rope_type"] = "default", ["rope_theta"] = 3e4 },
            };
        });
        var config = HfConfig.Load(folder.Path);
        Assert.Equal(new RotaryEmbedding(5e5, 1, new LinearRopeScaling(8)), config.Rope);
        Assert.Equal(new RotaryEmbedding(3e4), config.LocalRope);
    }

    [Fact]
    public void GenerationConfigOverridesConfig()
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel();
        model.WriteTo(folder.Path, model.Weights());
        File.WriteAllText(
            folder["generation_config.json"],
            """{"bos_token_id":7,"eos_token_id":[8,9],"pad_token_id":10,"do_sample":true,"temperature":0.6,"top_k":20,"top_p":0.95}""");
        var config = HfConfig.Load(folder.Path);
        Assert.Equal((7, 10), (config.BosTokenId, config.PadTokenId));
        Assert.Equal([8, 9], config.EosTokenIds);
        Assert.Equal(new GenerationDefaults { DoSample = true, Temperature = 0.6, TopK = 20, TopP = 0.95 }, config.Generation);
    }

    [Fact]
    public void ThetaInsideRopeParametersIsRead()
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel();
        model.WriteTo(folder.Path, model.Weights(), change: c =>
        {
            c.Remove("rope_theta");
            c["rope_parameters"] = new JsonObject { ["rope_type"] = "default", ["rope_theta"] = 12345.0 };
        });
        Assert.Equal(12345.0, HfConfig.Load(folder.Path).Rope.Theta);
    }

    /// <summary>Number of parameters that the publishers state; norms a layer has, and the width of those of queries and keys.</summary>
    [Theory]
    [InlineData("qwen3-0.6b", 596_049_920, 2, "head")]
    [InlineData("qwen3-1.7b", 1_720_574_976, 2, "head")]
    [InlineData("qwen3-4b", 4_022_468_096, 2, "head")]
    [InlineData("qwen3-8b", 8_190_735_360, 2, "head")]
    [InlineData("llama3-8b", 8_030_261_248, 2, "none")]
    [InlineData("llama3.1-8b", 8_030_261_248, 2, "none")]
    [InlineData("llama3.2-1b", 1_235_814_400, 2, "none")]
    [InlineData("mistral-7b", 7_248_023_552, 2, "none")]
    [InlineData("qwen2.5-0.5b", 494_032_768, 2, "none")]
    [InlineData("phi3-mini-4k", 3_821_079_552, 2, "none")]
    [InlineData("phi4-mini", 3_836_021_760, 2, "none")]
    [InlineData("gemma2-2b", 2_614_341_888, 4, "none")]
    [InlineData("gemma2-9b", 9_241_705_984, 4, "none")]
    [InlineData("gemma3-270m", 268_098_176, 4, "head")]
    [InlineData("gemma3-1b", 999_885_952, 4, "head")]
    [InlineData("smollm3-3b", 3_075_098_624, 2, "none")]
    [InlineData("olmo2-1b", 1_484_916_736, 2, "all")]
    public void KnownShapesHaveTheirPublishedNumberOfParameters(string name, long expected, int norms, string queryKeyNorms)
    {
        var c = KnownShapes.Get(name);
        c.Validate(name);
        long q = c.HeadCount * c.HeadSize, kv = c.KeyValueHeadCount * c.HeadSize, hidden = c.HiddenSize;
        var queryKeyNorm = queryKeyNorms switch { "head" => 2 * c.HeadSize, "all" => q + kv, _ => 0 };
        var layer = (hidden * (q + kv + kv)) + (q * hidden) + (3L * hidden * c.IntermediateSize) + (norms * hidden)
            + queryKeyNorm + (c.QkvBias ? q + kv + kv : 0);
        var tables = (long)c.VocabularySize * hidden * (c.TieWordEmbeddings ? 1 : 2);
        Assert.Equal(expected, (c.LayerCount * layer) + tables + hidden);
    }

    [Fact]
    public void AnUnknownShapeNamesTheKnownOnes()
    {
        var error = Assert.Throws<ModelException>(() => ModelExporter.ExportRandom("gpt-5", "/nowhere/x"));
        Assert.Contains("known are gemma2-2b, ", error.Message, StringComparison.Ordinal);
        Assert.Equal(17, KnownShapes.Names.Count);
    }
}
