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
        ["activation"] = (c => c["hidden_act"] = "gelu", "activation 'gelu'"),
        ["rope yarn"] = (c => c["rope_scaling"] = new JsonObject { ["rope_type"] = "yarn", ["factor"] = 2 }, "rope scaling of type 'yarn'"),
        ["rope linear, old key"] = (c => c["rope_scaling"] = new JsonObject { ["type"] = "linear" }, "rope scaling of type 'linear'"),
        ["rope llama3 without factor"] = (c => c["rope_scaling"] = new JsonObject { ["rope_type"] = "llama3" }, "'factor' is missing"),
        ["rope theta zero"] = (c => c["rope_theta"] = 0, "rope_theta 0 is out of range"),
        ["partial rotary"] = (c => c["partial_rotary_factor"] = 0.5, "partial_rotary_factor of 0.5"),
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
    [InlineData("Qwen3ForCausalLM", false, 4, null, null, -1)]
    [InlineData("Qwen3ForCausalLM", true, 4, 0, null, 4)]
    [InlineData("Qwen3ForCausalLM", true, 4, 2, null, -1)]
    [InlineData("Qwen3ForCausalLM", true, 4, 1, "1 of 2 layers", 0)]
    [InlineData("MistralForCausalLM", false, 4, null, null, 4)]
    [InlineData("MistralForCausalLM", false, null, null, null, -1)]
    [InlineData("LlamaForCausalLM", false, 4, null, null, -1)]
    public void WindowsAreReadAsTheModelClassDoes(
        string architecture, bool use, int? window, int? maxWindowLayers, string? refusal, int expected)
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel { Architecture = architecture, QkNorm = architecture == "Qwen3ForCausalLM", Window = window };
        model.WriteTo(folder.Path, model.Weights(), change: c =>
        {
            c["use_sliding_window"] = use;
            c["max_window_layers"] = maxWindowLayers;
        });
        if (refusal is not null)
        {
            var error = Assert.Throws<ModelException>(() => HfConfig.Load(folder.Path));
            Assert.Contains(refusal, error.Message, StringComparison.Ordinal);
            return;
        }

        Assert.Equal(expected, HfConfig.Load(folder.Path).SlidingWindow);
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
        Assert.Equal(12345.0, HfConfig.Load(folder.Path).RopeTheta);
    }

    /// <summary>Number of parameters that the publishers state.</summary>
    [Theory]
    [InlineData("qwen3-0.6b", 596_049_920)]
    [InlineData("qwen3-1.7b", 1_720_574_976)]
    [InlineData("qwen3-4b", 4_022_468_096)]
    [InlineData("qwen3-8b", 8_190_735_360)]
    [InlineData("llama3-8b", 8_030_261_248)]
    [InlineData("llama3.1-8b", 8_030_261_248)]
    [InlineData("llama3.2-1b", 1_235_814_400)]
    [InlineData("mistral-7b", 7_248_023_552)]
    [InlineData("qwen2.5-0.5b", 494_032_768)]
    public void KnownShapesHaveTheirPublishedNumberOfParameters(string name, long expected)
    {
        var c = KnownShapes.Get(name);
        c.Validate(name);
        long q = c.HeadCount * c.HeadSize, kv = c.KeyValueHeadCount * c.HeadSize, hidden = c.HiddenSize;
        var layer = (hidden * (q + kv + kv)) + (q * hidden) + (3L * hidden * c.IntermediateSize) + (2 * hidden)
            + (c.QkNorm ? 2 * c.HeadSize : 0) + (c.QkvBias ? q + kv + kv : 0);
        var tables = (long)c.VocabularySize * hidden * (c.TieWordEmbeddings ? 1 : 2);
        Assert.Equal(expected, (c.LayerCount * layer) + tables + hidden);
    }

    [Fact]
    public void AnUnknownShapeNamesTheKnownOnes()
    {
        var error = Assert.Throws<ModelException>(() => ModelExporter.ExportRandom("gpt-5", "/nowhere/x"));
        Assert.Contains("known are llama3-8b, ", error.Message, StringComparison.Ordinal);
        Assert.Equal(9, KnownShapes.Names.Count);
    }
}
