using System.Text.Json;
using System.Text.Json.Nodes;

namespace OrtBatchInvariant.Models.Export;

/// <summary>The <c>genai_config.json</c> of an exported model, with the keys that GenAI's model builder writes.</summary>
internal static class GenAIConfig
{
    private static readonly JsonSerializerOptions _format = new() { WriteIndented = true, IndentSize = 4 };

    public static void Write(string path, HfConfig config, ExportOptions options, string modelFileName)
    {
        var providers = new JsonArray();
        if (options.Target == ExportTarget.Cuda)
        {
            providers.Add((JsonNode)new JsonObject { ["cuda"] = new JsonObject { ["enable_cuda_graph"] = "0" } });
        }

        JsonNode eos = config.EosTokenIds.Count == 1
            ? JsonValue.Create(config.EosTokenIds[0])
            : new JsonArray([.. config.EosTokenIds.Select(id => (JsonNode)JsonValue.Create(id))]);
        var root = new JsonObject
        {
            ["model"] = new JsonObject
            {
                ["bos_token_id"] = config.BosTokenId,
                ["context_length"] = config.ContextLength,
                ["decoder"] = new JsonObject
                {
                    ["session_options"] = new JsonObject
                    {
                        ["log_id"] = "onnxruntime-genai",
                        ["provider_options"] = providers,
                    },
                    ["filename"] = modelFileName,
                    ["head_size"] = config.HeadSize,
                    ["hidden_size"] = config.HiddenSize,
                    ["inputs"] = new JsonObject
                    {
                        ["input_ids"] = "input_ids",
                        ["attention_mask"] = "attention_mask",
                        ["past_key_names"] = "past_key_values.%d.key",
                        ["past_value_names"] = "past_key_values.%d.value",
                    },
                    ["outputs"] = new JsonObject
                    {
                        ["logits"] = "logits",
                        ["present_key_names"] = "present.%d.key",
                        ["present_value_names"] = "present.%d.value",
                    },
                    ["num_attention_heads"] = config.HeadCount,
                    ["num_hidden_layers"] = config.LayerCount,
                    ["num_key_value_heads"] = config.KeyValueHeadCount,
                },
                ["eos_token_id"] = eos,
                ["pad_token_id"] = config.PadTokenId ?? config.EosTokenIds[0],
                ["type"] = config.GenAIModelType,
                ["vocab_size"] = config.VocabularySize,
            },
            ["search"] = new JsonObject
            {
                ["diversity_penalty"] = 0.0,
                ["do_sample"] = config.Generation.DoSample,
                ["early_stopping"] = true,
                ["length_penalty"] = 1.0,
                ["max_length"] = config.ContextLength,
                ["min_length"] = 0,
                ["no_repeat_ngram_size"] = 0,
                ["num_beams"] = 1,
                ["num_return_sequences"] = 1,
                ["past_present_share_buffer"] = true,
                ["repetition_penalty"] = config.Generation.RepetitionPenalty,
                ["temperature"] = config.Generation.Temperature,
                ["top_k"] = config.Generation.TopK,
                ["top_p"] = config.Generation.TopP,
            },
        };
        File.WriteAllText(path, root.ToJsonString(_format) + "\n");
    }
}
