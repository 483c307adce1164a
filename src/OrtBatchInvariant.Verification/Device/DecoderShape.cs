using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>What a decode loop must know of a decoder: the sizes of its KV cache and its element types.</summary>
/// <param name="LayerCount">Number of layers, each with a key and a value cache.</param>
/// <param name="KeyValueHeadCount">Number of key and value heads.</param>
/// <param name="HeadSize">Elements of a head.</param>
/// <param name="VocabularySize">Logits of a position.</param>
/// <param name="ContextLength">The most tokens of a sequence.</param>
/// <param name="CacheType">Element type of the KV cache.</param>
/// <param name="LogitsType">Element type of the logits.</param>
public sealed record DecoderShape(
    int LayerCount,
    int KeyValueHeadCount,
    int HeadSize,
    int VocabularySize,
    int ContextLength,
    TensorElementType CacheType,
    TensorElementType LogitsType)
{
    /// <summary>Bytes of the logits of one position.</summary>
    public int LogitsBytes => VocabularySize * ElementBytes(LogitsType);

    internal static DecoderShape Read(ModelFolder folder, InferenceSession session)
    {
        string configPath = Path.Combine(folder.Path, "genai_config.json");
        using JsonDocument config = JsonDocument.Parse(File.ReadAllBytes(configPath));
        JsonElement decoder = config.RootElement.GetProperty("model").GetProperty("decoder");
        return new DecoderShape(
            Number(configPath, decoder, "num_hidden_layers"),
            Number(configPath, decoder, "num_key_value_heads"),
            Number(configPath, decoder, "head_size"),
            folder.VocabularySize,
            folder.ContextLength,
            TypeOf(folder, session.InputMetadata, CacheName("past_key_values", 0, "key")),
            TypeOf(folder, session.OutputMetadata, folder.LogitsName));
    }

    internal static string CacheName(string prefix, int layer, string kind) => $"{prefix}.{layer}.{kind}";

    internal static int ElementBytes(TensorElementType type) => type switch
    {
        TensorElementType.Float or TensorElementType.Int32 => 4,
        TensorElementType.Float16 or TensorElementType.BFloat16 => 2,
        TensorElementType.Int64 => 8,
        _ => throw new VerificationException($"Element type {type} is none that a decoder's logits or KV cache can have here: use fp32, fp16 or bf16."),
    };

    private static int Number(string path, JsonElement decoder, string name) =>
        decoder.TryGetProperty(name, out JsonElement value) && value.TryGetInt32(out int number) && number > 0
            ? number
            : throw new VerificationException($"{path}: 'model.decoder.{name}' is missing or not a positive number.");

    private static TensorElementType TypeOf(ModelFolder folder, IReadOnlyDictionary<string, NodeMetadata> values, string name) =>
        values.TryGetValue(name, out NodeMetadata? value)
            ? value.ElementDataType
            : throw new VerificationException($"{folder.DecoderFile}: the graph has no '{name}', which a decoder in the GenAI layout has.");
}
