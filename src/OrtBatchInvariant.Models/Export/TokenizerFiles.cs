using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OrtBatchInvariant.Models.Export;

/// <summary>Passes a checkpoint's tokenizer files on.</summary>
internal static class TokenizerFiles
{
    private const string ConfigName = "tokenizer_config.json";

    private static readonly JsonSerializerOptions _format =
        new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static readonly string[] _names =
    [
        "tokenizer.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
        "chat_template.jinja", "chat_template.json",
    ];

    /// <summary>Copies what there is; <c>model_max_length</c> is set to the context length, as GenAI's builder does.</summary>
    /// <returns>Names of the files.</returns>
    public static IReadOnlyList<string> Copy(string from, string to, int contextLength)
    {
        var copied = new List<string>();
        foreach (var name in _names)
        {
            var source = Path.Combine(from, name);
            if (File.Exists(source))
            {
                File.Copy(source, Path.Combine(to, name));
                copied.Add(name);
            }
        }

        var configPath = Path.Combine(from, ConfigName);
        if (File.Exists(configPath))
        {
            CopyConfig(configPath, Path.Combine(to, ConfigName), contextLength);
            copied.Add(ConfigName);
        }

        return copied;
    }

    private static void CopyConfig(string from, string to, int contextLength)
    {
        JsonObject config;
        try
        {
            config = JsonNode.Parse(File.ReadAllBytes(from)) as JsonObject
                ?? throw new ModelException($"{from}: not a JSON object.");
        }
        catch (JsonException e)
        {
            throw new ModelException($"{from}: not valid JSON ({e.Message.TrimEnd('.')}).", e);
        }

        // Files state 1e30 for "no limit", which readers of an integer choke on.
        config["model_max_length"] = contextLength;
        File.WriteAllText(to, config.ToJsonString(_format) + "\n");
    }
}
