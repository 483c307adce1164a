using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Models.Tests.Support;
using Xunit.Abstractions;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Tests.Export;

public class ModelExporterTests(ITestOutputHelper output)
{
    private static readonly HfConfig _small = new()
    {
        Architecture = "Qwen3ForCausalLM",
        HiddenSize = 128,
        IntermediateSize = 256,
        LayerCount = 4,
        HeadCount = 8,
        KeyValueHeadCount = 4,
        HeadSize = 32,
        VocabularySize = 500,
        ContextLength = 128,
        TieWordEmbeddings = true,
        EosTokenIds = [2],
    };

    private static readonly string[] _files = ["genai_config.json", "model.onnx", "model.onnx.data"];

    [Fact]
    public void NodesAreThoseOfTheModelBuilder()
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel { QkvBias = true, OutputBias = true, Layers = 1 };
        ModelExporter.Export(model.WriteTo(folder["hf"], model.Weights()), folder["out"]);
        var nodes = GraphInspector.Nodes(OnnxModel.Load(folder["out/model.onnx"]));
        string[] expected =
        [
            "/model/constant_nodes/INT64/[1] Constant",
            "/model/attn_mask_reformat/attn_mask_subgraph/ReduceSum ReduceSum",
            "/model/attn_mask_reformat/attn_mask_subgraph/Sub Sub",
            "/model/attn_mask_reformat/attn_mask_subgraph/Sub/Cast Cast",
            "/model/attn_mask_reformat/attn_mask_subgraph/Shape Shape",
            "/model/constant_nodes/INT64/1 Constant",
            "/model/attn_mask_reformat/attn_mask_subgraph/Gather Gather",
            "/model/attn_mask_reformat/attn_mask_subgraph/Gather/Cast Cast",
            "/model/embed_tokens/Gather Gather",
            "/model/layers.0/input_layernorm/LayerNorm SimplifiedLayerNormalization",
            "/model/layers.0/attn/qkv_proj/MatMul MatMul",
            "/model/layers.0/attn/qkv_proj/Add Add",
            "/model/layers.0/attn/GroupQueryAttention com.microsoft:GroupQueryAttention",
            "/model/layers.0/attn/o_proj/MatMul MatMul",
            "/model/layers.0/attn/o_proj/Add Add",
            "/model/layers.0/post_attention_layernorm/SkipLayerNorm com.microsoft:SkipSimplifiedLayerNormalization",
            "/model/layers.0/mlp/gate_proj/MatMul MatMul",
            "/model/layers.0/mlp/up_proj/MatMul MatMul",
            "/model/layers.0/mlp/act_fn/Sigmoid Sigmoid",
            "/model/layers.0/mlp/act_fn/Mul Mul",
            "/model/layers.0/mlp/Mul Mul",
            "/model/layers.0/mlp/down_proj/MatMul MatMul",
            "/model/layers.1/final_norm_layernorm/SkipLayerNorm com.microsoft:SkipSimplifiedLayerNormalization",
            "/lm_head/MatMul MatMul",
        ];
        Assert.Equal(expected, nodes.Select(Describe));

        var attention = nodes.Single(node => node.OpType == "GroupQueryAttention");
        Assert.Equal(
            [
                "/model/layers.0/attn/qkv_proj/Add/output_0", "", "", "past_key_values.0.key", "past_key_values.0.value",
                "/model/attn_mask_reformat/attn_mask_subgraph/Sub/Cast/output_0",
                "/model/attn_mask_reformat/attn_mask_subgraph/Gather/Cast/output_0", "cos_cache", "sin_cache",
            ],
            attention.Inputs.Select(input => input.Name));
        Assert.Equal(
            ["/model/layers.0/attn/GroupQueryAttention/output_0", "present.0.key", "present.0.value"],
            attention.Outputs.Select(x => x.Name));
        Assert.Equal(
            ["num_heads=4", "kv_num_heads=2", "scale=0.25", "local_window_size=-1", "softcap=0", "do_rotary=1", "rotary_interleaved=0"],
            attention.Proto.Attribute.Select(a => $"{a.Name}={(a.Type == AttributeProto.Types.AttributeType.Int ? a.I : a.F)}"));

        var skip = nodes.First(node => node.OpType == "SkipSimplifiedLayerNormalization");
        Assert.Equal(
            ["/model/layers.0/post_attention_layernorm/output_0", "", "", "/model/layers.0/post_attention_layernorm/output_3"],
            skip.Outputs.Select(x => x.Name));
        Assert.Single(nodes.Last(node => node.OpType == "SkipSimplifiedLayerNormalization").Outputs);

        var graph = OnnxModel.Load(folder["out/model.onnx"]).Proto.Graph;
        Assert.Equal(["input_ids", "attention_mask", "past_key_values.0.key", "past_key_values.0.value"], graph.Input.Select(x => x.Name));
        Assert.Equal(["logits", "present.0.key", "present.0.value"], graph.Output.Select(x => x.Name));
        Assert.All(nodes.SelectMany(node => node.Outputs).Where(x => x.Name.Length > 0), x => Assert.NotNull(x.ElementType));
        Assert.All(graph.Initializer, tensor => Assert.Equal(TensorProto.Types.DataLocation.External, tensor.DataLocation));
    }

    /// <summary>Gemma: norms on both sides of a block, gelu, a scaled embedding and capped logits.</summary>
    [Fact]
    public void NodesOfGemmaAreThoseOfTheModelBuilder()
    {
        using var folder = new TemporaryFolder();
        var model = TinyModels.Get("gemma2") with { Layers = 1, Windowed = [true] };
        ModelExporter.Export(model.WriteTo(folder["hf"], model.Weights()), folder["out"]);
        var nodes = GraphInspector.Nodes(OnnxModel.Load(folder["out/model.onnx"]));
        string[] expected =
        [
            "/model/embed_tokens/Transpose Transpose",
            "/model/embed_tokens/Gather Gather",
            "/model/constant_nodes/FLOAT/8 Constant",
            "/model/embed_tokens/Mul Mul",
            "/model/layers.0/input_layernorm/LayerNorm SimplifiedLayerNormalization",
            "/model/layers.0/attn/qkv_proj/MatMul MatMul",
            "/model/layers.0/attn/GroupQueryAttention com.microsoft:GroupQueryAttention",
            "/model/layers.0/attn/o_proj/MatMul MatMul",
            "/model/layers.0/post_attention_layernorm/LayerNorm SimplifiedLayerNormalization",
            "/model/layers.0/pre_feedforward_layernorm/SkipLayerNorm com.microsoft:SkipSimplifiedLayerNormalization",
            "/model/layers.0/mlp/gate_proj/MatMul MatMul",
            "/model/layers.0/mlp/up_proj/MatMul MatMul",
            "/model/layers.0/mlp/act_fn/FastGelu Gelu",
            "/model/layers.0/mlp/Mul Mul",
            "/model/layers.0/mlp/down_proj/MatMul MatMul",
            "/model/layers.0/post_feedforward_layernorm/LayerNorm SimplifiedLayerNormalization",
            "/model/layers.1/final_norm_layernorm/SkipLayerNorm com.microsoft:SkipSimplifiedLayerNormalization",
            "/lm_head/MatMul MatMul",
            "/model/constant_nodes/FLOAT/2 Constant",
            "/lm_head/softcap/Div Div",
            "/lm_head/softcap/Tanh Tanh",
            "/lm_head/softcap/Mul Mul",
        ];
        Assert.Equal(expected, nodes.Select(Describe).SkipWhile(node => !node.StartsWith("/model/embed_tokens", StringComparison.Ordinal)));
        Assert.Equal(["logits"], nodes[^1].Outputs.Select(x => x.Name));
        var attributes = nodes.Single(node => node.OpType == "GroupQueryAttention").Proto.Attribute.ToDictionary(a => a.Name);
        Assert.Equal((6, 1.5f, (float)(1 / Math.Sqrt(24))), (attributes["local_window_size"].I, attributes["softcap"].F, attributes["scale"].F));
    }

    /// <summary>OLMo 2: norms after blocks only, and over all heads of queries and keys at once.</summary>
    [Fact]
    public void ABlockWithoutANormBeforeItReadsTheSum()
    {
        using var folder = new TemporaryFolder();
        var model = TinyModels.Get("olmo2") with { Layers = 2 };
        ModelExporter.Export(model.WriteTo(folder["hf"], model.Weights()), folder["out"]);
        var nodes = GraphInspector.Nodes(OnnxModel.Load(folder["out/model.onnx"]));
        string[] ofSecondLayer =
        [
            "/model/layers.0/post_feedforward_layernorm/Add Add",
            "/model/layers.1/attn/qkv_proj/MatMul MatMul",
            "/model/layers.1/attn/qkv_proj/Split Split",
            "/model/layers.1/attn/q_norm/SimplifiedLayerNormalization SimplifiedLayerNormalization",
            "/model/layers.1/attn/k_norm/SimplifiedLayerNormalization SimplifiedLayerNormalization",
            "/model/layers.1/attn/GroupQueryAttention com.microsoft:GroupQueryAttention",
            "/model/layers.1/attn/o_proj/MatMul MatMul",
            "/model/layers.1/post_attention_layernorm/LayerNorm SimplifiedLayerNormalization",
            "/model/layers.1/post_attention_layernorm/Add Add",
            "/model/layers.1/mlp/gate_proj/MatMul MatMul",
        ];
        Assert.Equal(ofSecondLayer, nodes.Select(Describe).SkipWhile(node => node != ofSecondLayer[0]).Take(ofSecondLayer.Length));
    }

    [Fact]
    public void LayersHaveTheirOwnWindowsAndRotaryCaches()
    {
        using var folder = new TemporaryFolder();
        var gemma = TinyModels.Get("gemma3");
        ModelExporter.Export(gemma.WriteTo(folder["gemma"], gemma.Weights()), folder["gemma-out"]);
        Assert.Equal(
            ["cos_cache_local 6 1", "cos_cache_local 6 1", "cos_cache_global -1 1"],
            Attentions(folder["gemma-out/model.onnx"]));

        var smol = TinyModels.Get("smollm3 windows, biases");
        ModelExporter.Export(smol.WriteTo(folder["smol"], smol.Weights()), folder["smol-out"]);
        Assert.Equal(["cos_cache 6 1", " -1 0"], Attentions(folder["smol-out/model.onnx"]));
    }

    [Theory]
    [InlineData(true, 4)]
    [InlineData(false, 0)]
    public void QuantizedNodesAreThoseOfTheModelBuilder(bool symmetric, int accuracyLevel)
    {
        using var folder = new TemporaryFolder();
        var options = new ExportOptions { Precision = ExportPrecision.Int4, IsSymmetric = symmetric, AccuracyLevel = accuracyLevel };
        ModelExporter.ExportRandom(_small, folder["out"], options);
        var nodes = GraphInspector.Nodes(OnnxModel.Load(folder["out/model.onnx"]));
        string[] ofLayer1 =
        [
            "/model/layers.1/input_layernorm/SkipLayerNorm com.microsoft:SkipSimplifiedLayerNormalization",
            "/model/layers.1/attn/qkv_proj/MatMul_Q4 com.microsoft:MatMulNBits",
            "/model/layers.1/attn/qkv_proj/Split Split",
            "/model/layers.1/attn/q_norm/Reshape_1 Reshape",
            "/model/layers.1/attn/q_norm/SimplifiedLayerNormalization SimplifiedLayerNormalization",
            "/model/layers.1/attn/q_norm/Reshape_2 Reshape",
            "/model/layers.1/attn/k_norm/Reshape_1 Reshape",
            "/model/layers.1/attn/k_norm/SimplifiedLayerNormalization SimplifiedLayerNormalization",
            "/model/layers.1/attn/k_norm/Reshape_2 Reshape",
            "/model/layers.1/attn/GroupQueryAttention com.microsoft:GroupQueryAttention",
            "/model/layers.1/attn/o_proj/MatMul_Q4 com.microsoft:MatMulNBits",
        ];
        var first = nodes.TakeWhile(node => !node.Name.StartsWith("/model/layers.1/", StringComparison.Ordinal)).Count();
        Assert.Equal(ofLayer1, nodes.Skip(first).Take(ofLayer1.Length).Select(Describe));
        Assert.DoesNotContain(nodes, node => node.OpType == "MatMul");
        Assert.Equal(21, nodes.Count(node => node.OpType == "MatMulNBits"));

        var product = nodes.Single(node => node.Name == "/model/layers.0/mlp/down_proj/MatMul_Q4");
        const string Weight = "model.layers.0.mlp.down_proj.MatMul.weight";
        List<string> names = ["/model/layers.0/mlp/Mul/output_0", $"{Weight}_Q4", $"{Weight}_scales"];
        List<string> attributes = ["K=256", "N=128", "bits=4", "block_size=32"];
        if (!symmetric)
        {
            names.Add($"{Weight}_zero_points");
            Assert.Equal((DataType.Uint8, "128 4"), (product.Inputs[3].ElementType, string.Join(' ', product.Inputs[3].Shape!)));
        }

        if (accuracyLevel != 0)
        {
            attributes.Add($"accuracy_level={accuracyLevel}");
        }

        Assert.Equal(names, product.Inputs.Select(input => input.Name));
        Assert.Equal(attributes, product.Proto.Attribute.Select(a => $"{a.Name}={a.I}"));
        Assert.Equal((DataType.Uint8, "128 8 16"), (product.Inputs[1].ElementType, string.Join(' ', product.Inputs[1].Shape!)));
        Assert.Equal((DataType.Float, "128 8"), (product.Inputs[2].ElementType, string.Join(' ', product.Inputs[2].Shape!)));
        Assert.Equal("/model/layers.0/mlp/down_proj/MatMul/output_0", product.Outputs[0].Name);
        Assert.Equal("logits", nodes.Single(node => node.Name == "/lm_head/MatMul_Q4").Outputs[0].Name);

        var lookup = nodes.Single(node => node.OpType == "GatherBlockQuantized");
        Assert.Equal("/model/embed_tokens/Reshape/output_0", lookup.Inputs[0].Name);
        Assert.Equal(symmetric ? 3 : 4, lookup.Inputs.Count);
    }

    [Theory]
    [InlineData(ExportPrecision.Fp16, DataType.Float16, DataType.Float16)]
    [InlineData(ExportPrecision.Bf16, DataType.Bfloat16, DataType.Float)]
    [InlineData(ExportPrecision.Int4, DataType.Float16, DataType.Float16)]
    public void TheCudaFormFoldsNormsIntoTheAttention(ExportPrecision precision, DataType activations, DataType logits)
    {
        using var folder = new TemporaryFolder();
        ModelExporter.ExportRandom(_small, folder["out"], new ExportOptions { Precision = precision, Target = ExportTarget.Cuda });
        var model = OnnxModel.Load(folder["out/model.onnx"]);
        var nodes = GraphInspector.Nodes(model);
        var attention = nodes.First(node => node.OpType == "GroupQueryAttention");
        Assert.Equal(16, attention.Inputs.Count);
        Assert.Equal("model.layers.0.attn.q_norm.layernorm.weight", attention.Inputs[14].Name);
        int[] floatInputs = [0, 1, 2, 3, 4, 7, 8, 14, 15];
        Assert.All(floatInputs, i => Assert.Equal(activations, attention.Inputs[i].ElementType));
        Assert.Contains(attention.Proto.Attribute, a => a.Name == "qk_norm_epsilon");
        Assert.DoesNotContain(nodes, node => node.Name.Contains("/q_norm/", StringComparison.Ordinal));
        Assert.Equal((int)logits, model.Proto.Graph.Output[0].Type.TensorType.ElemType);
        Assert.DoesNotContain(nodes.SelectMany(n => n.Proto.Attribute), a => a.Name == "accuracy_level");

        var config = JsonNode.Parse(File.ReadAllText(folder["out/genai_config.json"]))!;
        var session = config["model"]!["decoder"]!["session_options"]!;
        Assert.Equal("""[{"cuda":{"enable_cuda_graph":"0"}}]""", session["provider_options"]!.ToJsonString());
    }

    [Fact]
    public void GenAIConfigHasTheModelBuildersKeys()
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel();
        model.WriteTo(folder["hf"], model.Weights());
        File.WriteAllText(folder["hf/generation_config.json"], """{"eos_token_id":[5,6],"temperature":0.7,"do_sample":true}""");
        ModelExporter.Export(folder["hf"], folder["out"]);
        var expected = """
            {
              "model": {
                "bos_token_id": 1,
                "context_length": 64,
                "decoder": {
                  "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                  "filename": "model.onnx",
                  "head_size": 16,
                  "hidden_size": 64,
                  "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value"
                  },
                  "outputs": {"logits": "logits", "present_key_names": "present.%d.key", "present_value_names": "present.%d.value"},
                  "num_attention_heads": 4,
                  "num_hidden_layers": 2,
                  "num_key_value_heads": 2
                },
                "eos_token_id": [5, 6],
                "pad_token_id": 5,
                "type": "llama",
                "vocab_size": 80
              },
              "search": {
                "diversity_penalty": 0.0,
                "do_sample": true,
                "early_stopping": true,
                "length_penalty": 1.0,
                "max_length": 64,
                "min_length": 0,
                "no_repeat_ngram_size": 0,
                "num_beams": 1,
                "num_return_sequences": 1,
                "past_present_share_buffer": true,
                "repetition_penalty": 1.0,
                "temperature": 0.7,
                "top_k": 50,
                "top_p": 1.0
              }
            }
            """;
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(expected), JsonNode.Parse(File.ReadAllText(folder["out/genai_config.json"]))));
    }

    [Fact]
    public void TokenizerFilesAreCopied()
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel();
        model.WriteTo(folder["hf"], model.Weights());
        File.WriteAllText(folder["hf/tokenizer.json"], "{\"any\": 1}");
        File.WriteAllText(folder["hf/chat_template.jinja"], "{{ bos_token }}{% for m in messages %}");
        File.WriteAllText(
            folder["hf/tokenizer_config.json"], """{"model_max_length":1000000000000000019884624838656,"chat_template":"<|a|>{{ x }}"}""");
        File.WriteAllText(folder["hf/README.md"], "not for the model");
        var result = ModelExporter.Export(folder["hf"], folder["out"]);
        Assert.Equal(["tokenizer.json", "chat_template.jinja", "tokenizer_config.json"], result.CopiedFiles);
        Assert.Equal("{{ bos_token }}{% for m in messages %}", File.ReadAllText(folder["out/chat_template.jinja"]));
        Assert.Equal("{\"any\": 1}", File.ReadAllText(folder["out/tokenizer.json"]));
        var text = File.ReadAllText(folder["out/tokenizer_config.json"]);
        Assert.Contains("\"<|a|>{{ x }}\"", text, StringComparison.Ordinal);
        Assert.Equal(64, JsonDocument.Parse(text).RootElement.GetProperty("model_max_length").GetInt32());
        Assert.Equal(
            ["chat_template.jinja", .. _files, "tokenizer.json", "tokenizer_config.json"],
            Directory.GetFiles(folder["out"]).Select(Path.GetFileName).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void RandomWeightsDependOnTheSeedOnly()
    {
        using var folder = new TemporaryFolder();
        var options = new ExportOptions { Precision = ExportPrecision.Int4 };
        ModelExporter.ExportRandom(_small, folder["a"], options, seed: 3);
        ModelExporter.ExportRandom(_small, folder["b"], options, seed: 3);
        ModelExporter.ExportRandom(_small, folder["c"], options, seed: 4);
        foreach (var file in _files)
        {
            Assert.Equal(File.ReadAllBytes(folder[$"a/{file}"]), File.ReadAllBytes(folder[$"b/{file}"]));
        }

        Assert.NotEqual(File.ReadAllBytes(folder["a/model.onnx.data"]), File.ReadAllBytes(folder["c/model.onnx.data"]));
    }

    [Theory]
    [InlineData(ExportPrecision.Fp32)]
    [InlineData(ExportPrecision.Int4)]
    [InlineData(ExportPrecision.Int8)]
    public void RandomModelsGiveSaneLogits(ExportPrecision precision)
    {
        using var folder = new TemporaryFolder();
        ModelExporter.ExportRandom(_small, folder["out"], new ExportOptions { Precision = precision });
        var shape = new TinyModel { Layers = 4, Heads = 8, KeyValueHeads = 4, HeadSize = 32, Vocabulary = 500 };
        using var runner = new OnnxRunner(folder["out"], shape);
        var logits = runner.Append([1, 2, 3, 4, 5, 6, 7, 8]);
        var rms = Math.Sqrt(logits.SelectMany(row => row).Average(x => x * x));
        output.WriteLine($"{logits.Length * 500} logits, root mean square {rms}");
        Assert.InRange(rms, 0.5, 2);
        Assert.True(logits.Select(row => Array.IndexOf(row, row.Max())).Distinct().Count() > 2);
    }

    [Fact]
    public void TheFolderAppearsOnlyWhenComplete()
    {
        using var folder = new TemporaryFolder();
        var reports = new List<ExportProgress>();
        ModelExporter.ExportRandom(_small, folder["out"], progress: new Immediate(report =>
        {
            Assert.False(Directory.Exists(folder["out"]));
            var written = Directory.EnumerateFiles(folder.Path, "*", SearchOption.AllDirectories).Select(Path.GetFileName);
            Assert.DoesNotContain(written, name => name is "model.onnx" or "genai_config.json");
            reports.Add(report);
        }));
        Assert.Equal(["out"], folder.Entries());
        Assert.Equal(_files, Directory.GetFiles(folder["out"]).Select(Path.GetFileName).Order());
        Assert.Equal(reports[^1].TotalBytes, reports[^1].BytesWritten);
        Assert.Equal(reports.Count, reports.Select(report => report.Tensor).Distinct().Count());
    }

    [Fact]
    public void AStoppedExportLeavesNothing()
    {
        using var folder = new TemporaryFolder();
        using var stop = new CancellationTokenSource();
        Assert.ThrowsAny<OperationCanceledException>(() => ModelExporter.ExportRandom(
            _small, folder["out"], progress: new Immediate(report => stop.Cancel()), cancellation: stop.Token));
        Assert.Empty(folder.Entries());

        Assert.Throws<InvalidDataException>(() => ModelExporter.ExportRandom(
            _small, folder["out"], progress: new Immediate(report => throw new InvalidDataException())));
        Assert.Empty(folder.Entries());
    }

    [Fact]
    public void AFullFolderIsReplacedOnlyIfAsked()
    {
        using var folder = new TemporaryFolder();
        Directory.CreateDirectory(folder["out"]);
        ModelExporter.ExportRandom(_small, folder["out"]);
        var before = File.ReadAllBytes(folder["out/model.onnx.data"]);

        var error = Assert.Throws<ModelException>(() => ModelExporter.ExportRandom(_small, folder["out"], seed: 9));
        OneSentence.Check(error, folder["out"]);
        Assert.Equal(before, File.ReadAllBytes(folder["out/model.onnx.data"]));

        ModelExporter.ExportRandom(_small, folder["out"], new ExportOptions { Overwrite = true }, seed: 9);
        Assert.NotEqual(before, File.ReadAllBytes(folder["out/model.onnx.data"]));
        Assert.Equal(["out"], folder.Entries());

        File.WriteAllText(folder["file"], "x");
        error = Assert.Throws<ModelException>(() => ModelExporter.ExportRandom(_small, folder["file"]));
        OneSentence.Check(error, folder["file"]);
    }

    [Fact]
    public void WeightsThatDoNotFitTheConfigurationAreRefusedByName()
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel();
        var phi3 = TinyModels.Get("phi3 window");
        (string Name, TinyModel Stored, Action<JsonObject>? Change, string Expected)[] cases =
        [
            ("fused missing", model, c => c["architectures"] = new JsonArray("Phi3ForCausalLM"),
                "tensor 'model.layers.0.self_attn.qkv_proj.weight' is missing"),
            ("fused shape", phi3, c => c["intermediate_size"] = 95,
                "'model.layers.0.mlp.gate_up_proj.weight' has shape [192, 64]; config.json asks for [190, 64]"),
            ("fused extra", phi3, c => c["architectures"] = new JsonArray("MistralForCausalLM"),
                "tensor 'model.layers.0.self_attn.q_proj.weight' is missing"),
            ("norm shape", TinyModels.Get("olmo2"), c => c["architectures"] = new JsonArray("Qwen3ForCausalLM"),
                "tensor 'model.layers.0.input_layernorm.weight' is missing"),
            ("missing", model, c => c["attention_bias"] = true, "tensor 'model.layers.0.self_attn.q_proj.bias' is missing"),
            ("shape", model, c => c["vocab_size"] = 81, "'model.embed_tokens.weight' has shape [80, 64]; config.json asks for [81, 64]"),
            ("extra", model, c => c["num_hidden_layers"] = 1, "tensor 'model.layers.1.input_layernorm.weight' has no place"),
        ];
        foreach (var (name, stored, change, expected) in cases)
        {
            stored.WriteTo(folder[name], stored.Weights(), change: change);
            var error = Assert.Throws<ModelException>(() => ModelExporter.Export(folder[name], folder["out"]));
            output.WriteLine(error.Message);
            Assert.Contains(expected, error.Message, StringComparison.Ordinal);
            OneSentence.Check(error, folder[name]);
            Assert.False(Directory.Exists(folder["out"]));
        }
    }

    [Fact]
    public void WeightsThatCannotBeStoredAreRefusedByName()
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel();
        var weights = model.Weights();
        weights["model.layers.1.mlp.up_proj.weight"][77] = float.NaN;
        model.WriteTo(folder["nan"], weights);
        var error = Assert.Throws<ModelException>(
            () => ModelExporter.Export(folder["nan"], folder["out"], new ExportOptions { Precision = ExportPrecision.Int4 }));
        OneSentence.Check(error, "'model.layers.1.mlp.up_proj.weight'");

        weights["model.layers.1.mlp.up_proj.weight"][77] = 1e6f;
        model.WriteTo(folder["large"], weights);
        var half = new ExportOptions { Precision = ExportPrecision.Fp16, Target = ExportTarget.Cuda };
        error = Assert.Throws<ModelException>(() => ModelExporter.Export(folder["large"], folder["out"], half));
        OneSentence.Check(error, "'model.layers.1.mlp.up_proj.weight'");
        Assert.Equal(["large", "nan"], folder.Entries().Order());
    }

    [Fact]
    public void TensorsThatRepeatWhatTheModelHasAreIgnored()
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel { Tied = true };
        var weights = model.Weights();
        model.WriteTo(folder["hf"], weights);
        ModelExporter.Export(folder["hf"], folder["plain"]);
        SafeTensorsWriter.Write(
            folder["hf/model.safetensors"],
            "F32",
            [
                .. model.Shapes().Select(s => (s.Name, s.Shape, weights[s.Name])),
                ("lm_head.weight", [80, 64], weights["model.embed_tokens.weight"]),
                ("model.layers.0.self_attn.rotary_emb.inv_freq", [8], new float[8]),
            ]);
        ModelExporter.Export(folder["hf"], folder["repeating"]);
        Assert.All(
            _files,
            file => Assert.Equal(File.ReadAllBytes(folder[$"plain/{file}"]), File.ReadAllBytes(folder[$"repeating/{file}"])));
    }

    /// <summary>Gemma 3 from 4B on: the text part's fields and tensors lie one level deeper, beside those that see images.</summary>
    [Theory]
    [InlineData("language_model.model.", "vision_tower.", "multi_modal_projector.")]
    [InlineData("model.language_model.", "model.vision_tower.", "model.multi_modal_projector.")]
    public void TheTextPartOfAVisionModelIsThatTextModel(string textPrefix, string tower, string projector)
    {
        using var folder = new TemporaryFolder();
        var model = TinyModels.Get("gemma3");
        var weights = model.Weights();
        model.WriteTo(folder["text"], weights);
        ModelExporter.Export(folder["text"], folder["expected"]);

        Directory.CreateDirectory(folder["hf"]);
        var text = JsonNode.Parse(File.ReadAllText(folder["text/config.json"]))!.AsObject();
        text.Remove("architectures");
        var config = new JsonObject { ["architectures"] = new JsonArray("Gemma3ForConditionalGeneration"), ["text_config"] = text };
        File.WriteAllText(folder["hf/config.json"], config.ToJsonString());
        List<(string, long[], float[])> tensors =
        [
            .. model.Shapes().Select(s => (s.Name.Replace("model.", textPrefix, StringComparison.Ordinal), s.Shape, weights[s.Name])),
            ($"{tower}encoder.weight", [2, 2], new float[4]), ($"{projector}weight", [2], new float[2]),
        ];
        SafeTensorsWriter.Write(folder["hf/model.safetensors"], "F32", tensors);
        ModelExporter.Export(folder["hf"], folder["out"]);
        Assert.All(_files, file => Assert.Equal(File.ReadAllBytes(folder[$"expected/{file}"]), File.ReadAllBytes(folder[$"out/{file}"])));

        SafeTensorsWriter.Write(folder["hf/model.safetensors"], "F32", [.. tensors, ("audio_tower.weight", [2], new float[2])]);
        var error = Assert.Throws<ModelException>(() => ModelExporter.Export(folder["hf"], folder["out2"]));
        OneSentence.Check(error, "tensor 'audio_tower.weight' has no place");
        config.Remove("text_config");
        File.WriteAllText(folder["hf/config.json"], config.ToJsonString());
        OneSentence.Check(Assert.Throws<ModelException>(() => ModelExporter.Export(folder["hf"], folder["out2"])), "'text_config' is missing");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(65)]
    public void AContextLongerThanTheModelsIsRefused(int length)
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel();
        model.WriteTo(folder["hf"], model.Weights());
        var error = Assert.Throws<ModelException>(
            () => ModelExporter.Export(folder["hf"], folder["out"], new ExportOptions { ContextLength = length }));
        OneSentence.Check(error, $"Context length {length} cannot be used; the model's own is 64");
        Assert.False(Directory.Exists(folder["out"]));
    }

    [Theory]
    [InlineData(ExportPrecision.Fp16, DataType.Float16, "F16")]
    [InlineData(ExportPrecision.Bf16, DataType.Bfloat16, "BF16")]
    public void HalfPrecisionWeightsAreRoundedToTheNearest(ExportPrecision precision, DataType type, string storedAs)
    {
        using var folder = new TemporaryFolder();
        var model = new TinyModel();
        var weights = model.Weights();
        var options = new ExportOptions { Precision = precision, Target = ExportTarget.Cuda };
        ModelExporter.Export(model.WriteTo(folder["hf"], weights), folder["out"], options);
        var exported = OnnxModel.Load(folder["out/model.onnx"]);
        var compared = 0;
        foreach (var (name, source, isTransposed) in ((string, string, bool)[])
            [
                ("model.embed_tokens.weight", "model.embed_tokens.weight", false),
                ("model.layers.1.mlp.down_proj.MatMul.weight", "model.layers.1.mlp.down_proj.weight", true),
            ])
        {
            var tensor = exported.Tensors.Single(t => t.Name == name);
            Assert.Equal((int)type, tensor.DataType);
            var bits = MemoryMarshal.Cast<byte, ushort>(exported.ReadBytes(tensor)).ToArray();
            var (rows, columns) = ((int)tensor.Dims[0], (int)tensor.Dims[1]);
            for (var i = 0; i < bits.Length; i++)
            {
                var value = weights[source][isTransposed ? (i % columns * rows) + (i / columns) : i];
                var actual = type == DataType.Float16
                    ? (float)BitConverter.UInt16BitsToHalf(bits[i])
                    : BitConverter.UInt32BitsToSingle((uint)bits[i] << 16);
                Assert.Equal(SafeTensorsWriter.Rounded(storedAs, value), actual);
                compared++;
            }
        }

        output.WriteLine($"{compared} weights compared");
        Assert.NotEqual(0, compared);
    }

    [Theory]
    [InlineData(ExportPrecision.Fp16, ExportTarget.Cpu, 32, 0, "Precision Fp16 is for the target Cuda")]
    [InlineData(ExportPrecision.Fp32, ExportTarget.Cuda, 32, 0, "Precision Fp32 is for the target Cpu")]
    [InlineData(ExportPrecision.Int4, ExportTarget.Cpu, 48, 0, "Block size 48")]
    [InlineData(ExportPrecision.Int4, ExportTarget.Cpu, 8, 0, "Block size 8")]
    [InlineData(ExportPrecision.Int4, ExportTarget.Cpu, 32, 2, "Accuracy level 2")]
    public void WrongOptionsAreRefused(ExportPrecision precision, ExportTarget target, int blockSize, int accuracyLevel, string expected)
    {
        var options = new ExportOptions { Precision = precision, Target = target, BlockSize = blockSize, AccuracyLevel = accuracyLevel };
        var error = Assert.Throws<ModelException>(() => ModelExporter.ExportRandom(_small, "/nowhere/out", options));
        OneSentence.Check(error, expected);
    }

    /// <summary>Of each attention: its cosines, its window and whether it rotates.</summary>
    private static IEnumerable<string> Attentions(string path) => GraphInspector.Nodes(OnnxModel.Load(path))
        .Where(node => node.OpType == "GroupQueryAttention")
        .Select(node => (node, attributes: node.Proto.Attribute.ToDictionary(a => a.Name)))
        .Select(x => $"{x.node.Inputs[7].Name} {x.attributes["local_window_size"].I} {x.attributes["do_rotary"].I}");

    private static string Describe(NodeInfo node) => $"{node.Name} {(node.Domain.Length == 0 ? "" : node.Domain + ":")}{node.OpType}";

    private sealed class Immediate(Action<ExportProgress> action) : IProgress<ExportProgress>
    {
        public void Report(ExportProgress value) => action(value);
    }
}
