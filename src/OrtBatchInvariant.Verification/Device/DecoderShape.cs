using System.Globalization;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>The keys or the values of a layer, as a graph takes them and gives them back: [batch, heads, tokens, head size].</summary>
/// <param name="Past">Name of the input.</param>
/// <param name="Present">Name of the output.</param>
/// <param name="Type">Element type.</param>
/// <param name="HeadCount">Number of heads.</param>
/// <param name="HeadSize">Elements of a head.</param>
public sealed record CacheValue(string Past, string Present, TensorElementType Type, int HeadCount, int HeadSize);

/// <summary>An input by name and element type.</summary>
/// <param name="Name">The input.</param>
/// <param name="Type">int32 or int64.</param>
public sealed record TokenInput(string Name, TensorElementType Type);

/// <summary>What a decode loop must know of a decoder: names, sizes and element types of what goes in and comes out.</summary>
/// <param name="InputIds">Token ids, [batch, tokens].</param>
/// <param name="AttentionMask">1 for tokens and 0 for padding, [batch, past and present tokens]; null if the graph has none.</param>
/// <param name="PositionIds">Positions, [batch, tokens]; null if the graph counts them itself.</param>
/// <param name="Cache">The KV cache; empty if the graph has none.</param>
/// <param name="SharesBuffer">Whether past and present are one buffer in which each row lies without gaps, as GroupQueryAttention has
/// it; otherwise the graph gives back a longer cache than it took.</param>
/// <param name="Logits">Name of the logits, [batch, tokens, vocabulary].</param>
/// <param name="LogitsType">Element type of the logits.</param>
/// <param name="VocabularySize">Logits of a position.</param>
/// <param name="ContextLength">The most tokens of a sequence.</param>
public sealed record DecoderShape(
    TokenInput InputIds,
    TokenInput? AttentionMask,
    TokenInput? PositionIds,
    IReadOnlyList<CacheValue> Cache,
    bool SharesBuffer,
    string Logits,
    TensorElementType LogitsType,
    int VocabularySize,
    int ContextLength)
{
    /// <summary>Whether the graph takes past keys and values; if not, each run takes the whole text.</summary>
    public bool HasCache => Cache.Count > 0;

    /// <summary>Why past and present are not one buffer, for the middle of a sentence.</summary>
    internal string WhyNoBuffer => HasCache ? "the model's KV cache grows with every step instead of lying in a buffer" : "the model has no KV cache";

    /// <summary>Whether rows of a batch may differ in length: their padding must be masked, or come after everything that looks back.</summary>
    public bool TakesUnequalRows => AttentionMask is not null || !HasCache;

    /// <summary>Why rows may not differ in length, for the middle of a sentence.</summary>
    internal const string WhyEqualRows = "the model takes no attention mask, so that the rows of a batch must be equally long";

    /// <summary>Bytes of the logits of one position.</summary>
    public int LogitsBytes => VocabularySize * ElementBytes(LogitsType);

    internal static DecoderShape Read(ModelFolder folder, InferenceSession session) => new DecoderShapeReader(folder, session).Read();

    internal static int ElementBytes(TensorElementType type) => type switch
    {
        TensorElementType.Float or TensorElementType.Int32 => 4,
        TensorElementType.Float16 or TensorElementType.BFloat16 => 2,
        TensorElementType.Int64 => 8,
        _ => throw new VerificationException($"Element type {type} is none that a decoder's logits or KV cache can have here: use fp32, fp16 or bf16."),
    };
}

/// <summary>Finds a decoder's inputs and outputs: by the names in genai_config.json, or else by the usual ones.</summary>
internal sealed class DecoderShapeReader(ModelFolder folder, InferenceSession session)
{
    private readonly JsonElement? _decoder = folder.Config?.GetProperty("model").GetProperty("decoder");
    private readonly HashSet<string> _known = [];
    private DecoderFile? _file;

    public DecoderShape Read()
    {
        TokenInput ids = Input("input_ids") ?? throw Missing("input_ids");
        TokenInput? mask = Input("attention_mask");
        TokenInput? positions = Input("position_ids");
        _file = DecoderFile.Read(folder, session.InputMetadata.Keys.Where(name => !_known.Contains(name)).ToHashSet());
        List<CacheValue> cache = Cache();
        if (session.InputMetadata.Keys.FirstOrDefault(name => !_known.Contains(name)) is { } other)
        {
            throw new VerificationException(
                $"{folder.DecoderFile}: the graph has an input '{other}', which is none of a decoder in the GenAI layout (token ids, attention mask, positions, past keys and values).");
        }

        NodeMetadata logits = session.OutputMetadata.TryGetValue(folder.LogitsName, out NodeMetadata? found) ? found : throw Missing(folder.LogitsName);
        if (logits.Dimensions is not [_, var tokens, _] || tokens > 0)
        {
            throw new VerificationException(
                $"{folder.DecoderFile}: its logits have the shape [{string.Join(", ", logits.Dimensions)}]; those of every token are needed, [batch, tokens, vocabulary].");
        }

        int vocabulary = logits.Dimensions[2] > 0 ? logits.Dimensions[2] : folder.VocabularySize;
        if (vocabulary == 0)
        {
            throw new VerificationException($"{folder.DecoderFile}: the size of the vocabulary is neither in the graph nor in a genai_config.json beside it.");
        }

        return new DecoderShape(
            ids, mask, positions, cache, _file.SharesBuffer, folder.LogitsName, logits.ElementDataType, vocabulary,
            folder.ContextLength > 0 ? folder.ContextLength : _file.ContextLength);
    }

    private List<CacheValue> Cache()
    {
        var cache = new List<CacheValue>();
        if (Named("inputs", "past_key_names") is { } pastKeys)
        {
            string pastValues = Named("inputs", "past_value_names") ?? throw Missing("past_value_names");
            string presentKeys = Named("outputs", "present_key_names") ?? throw Missing("present_key_names");
            string presentValues = Named("outputs", "present_value_names") ?? throw Missing("present_value_names");
            for (int layer = 0; layer < Number("num_hidden_layers"); layer++)
            {
                Add(cache, Numbered(pastKeys, layer), Numbered(presentKeys, layer));
                Add(cache, Numbered(pastValues, layer), Numbered(presentValues, layer));
            }
        }
        else
        {
            foreach (string past in session.InputMetadata.Keys.Where(name => name.StartsWith("past", StringComparison.Ordinal)))
            {
                string present = past.StartsWith("past_key_values", StringComparison.Ordinal) ? "present" + past["past_key_values".Length..] : "present" + past["past".Length..];
                Add(cache, past, present);
            }
        }

        return cache;
    }

    // Some layers of a hybrid model keep no keys and values.
    private void Add(List<CacheValue> cache, string past, string present)
    {
        if (!session.InputMetadata.TryGetValue(past, out NodeMetadata? value))
        {
            return;
        }

        if (!session.OutputMetadata.ContainsKey(present))
        {
            throw Missing(present);
        }

        _known.Add(past);
        if (value.Dimensions is not [_, var heads, _, var size])
        {
            throw new VerificationException($"{folder.DecoderFile}: '{past}' has {value.Dimensions.Length} dimensions; keys and values of the shape [batch, heads, tokens, head size] are needed.");
        }

        cache.Add(new CacheValue(
            past, present, value.ElementDataType, heads > 0 ? heads : Number("num_key_value_heads"), size > 0 ? size : _decoder is null && _file?.HeadSize is { } known ? known : Number("head_size")));
    }

    private TokenInput? Input(string role)
    {
        string name = Named("inputs", role) ?? role;
        if (!session.InputMetadata.TryGetValue(name, out NodeMetadata? value))
        {
            return null;
        }

        _known.Add(name);
        return value.ElementDataType is TensorElementType.Int64 or TensorElementType.Int32
            ? new TokenInput(name, value.ElementDataType)
            : throw new VerificationException($"{folder.DecoderFile}: '{name}' is of type {value.ElementDataType}; int32 or int64 is needed.");
    }

    private string? Named(string group, string role) =>
        _decoder is { } decoder && decoder.TryGetProperty(group, out JsonElement names) && names.ValueKind == JsonValueKind.Object
        && names.TryGetProperty(role, out JsonElement name) && name.ValueKind == JsonValueKind.String
            ? name.GetString() : null;

    private static string Numbered(string pattern, int layer) =>
        pattern.Replace("%d", layer.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal);

    private int Number(string name) =>
        _decoder is { } decoder && decoder.TryGetProperty(name, out JsonElement value) && value.TryGetInt32(out int number) && number > 0
            ? number
            : throw new VerificationException($"{folder.DecoderFile}: 'model.decoder.{name}' of genai_config.json is missing or not a positive number, and the graph does not say it.");

    private VerificationException Missing(string name) =>
        new($"{folder.DecoderFile}: the graph has no '{name}', which a decoder in the GenAI layout has.");
}
