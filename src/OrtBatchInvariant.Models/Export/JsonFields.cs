using System.Text.Json;

namespace OrtBatchInvariant.Models.Export;

/// <summary>Fields of a JSON object, with errors that name the file and the field.</summary>
internal sealed class JsonFields
{
    private readonly JsonElement _element;
    private readonly JsonElement? _defaults;

    private JsonFields(string source, JsonElement element, JsonElement? defaults = null)
    {
        Source = source;
        _element = element;
        _defaults = defaults;
    }

    /// <summary>The file.</summary>
    public string Source { get; }

    public static JsonFile? Open(string path, bool isRequired)
    {
        try
        {
            var document = JsonDocument.Parse(File.ReadAllBytes(path));
            if (document.RootElement.ValueKind != JsonValueKind.Object)
            {
                document.Dispose();
                throw new ModelException($"{path}: not a JSON object.");
            }

            return new JsonFile(document, new JsonFields(path, document.RootElement));
        }
        catch (FileNotFoundException e)
        {
            return isRequired ? throw new ModelException($"{path}: no such file; it describes the model.", e) : null;
        }
        catch (JsonException e)
        {
            throw new ModelException($"{path}: not valid JSON ({e.Message.TrimEnd('.')}).", e);
        }
    }

    public ModelException Error(string what) => new($"{Source} {what}.");

    /// <summary>The same with values for what is left out; a field that is null stays null.</summary>
    public JsonFields WithDefaults(string json) => new(Source, _element, JsonElement.Parse(json));

    public int Int(string key) => OptionalInt(key) ?? throw Missing(key);

    public double Double(string key) => OptionalDouble(key) ?? throw Missing(key);

    public JsonFields Object(string key) => OptionalObject(key) ?? throw Missing(key);

    public int? OptionalInt(string key) => Find(key) is not { } value
        ? null
        : value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number) ? number : throw Wrong(key, value, "an integer");

    public double? OptionalDouble(string key) => Find(key) is not { } value
        ? null
        : value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var number) ? number : throw Wrong(key, value, "a number");

    public bool? OptionalBool(string key) => Find(key) is not { } value
        ? null
        : value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : throw Wrong(key, value, "true or false");

    public string? OptionalString(string key) => Find(key) is not { } value
        ? null
        : value.ValueKind == JsonValueKind.String ? value.GetString() : throw Wrong(key, value, "a string");

    public JsonFields? OptionalObject(string key) => Find(key) is not { } value
        ? null
        : value.ValueKind == JsonValueKind.Object ? new JsonFields($"{Source}: {key}", value) : throw Wrong(key, value, "an object");

    public IReadOnlyList<string>? OptionalStrings(string key)
    {
        if (Find(key) is not { } value)
        {
            return null;
        }

        return value.ValueKind == JsonValueKind.Array && value.EnumerateArray().All(item => item.ValueKind == JsonValueKind.String)
            ? [.. value.EnumerateArray().Select(item => item.GetString()!)]
            : throw Wrong(key, value, "a list of strings");
    }

    public IReadOnlyList<double> Doubles(string key)
    {
        var value = Find(key) ?? throw Missing(key);
        return value.ValueKind == JsonValueKind.Array && value.EnumerateArray().All(item => item.ValueKind == JsonValueKind.Number)
            ? [.. value.EnumerateArray().Select(item => item.GetDouble())]
            : throw Wrong(key, value, "a list of numbers");
    }

    /// <summary>An integer or a list of integers.</summary>
    public IReadOnlyList<int>? OptionalInts(string key)
    {
        if (Find(key) is not { } value)
        {
            return null;
        }

        if (value.ValueKind != JsonValueKind.Array)
        {
            return [Int(key)];
        }

        return value.EnumerateArray().All(item => item.ValueKind == JsonValueKind.Number && item.TryGetInt32(out _))
            ? [.. value.EnumerateArray().Select(item => item.GetInt32())]
            : throw Wrong(key, value, "an integer or a list of integers");
    }

    private JsonElement? Find(string key)
    {
        if (!_element.TryGetProperty(key, out var value) && !(_defaults?.TryGetProperty(key, out value) ?? false))
        {
            return null;
        }

        return value.ValueKind == JsonValueKind.Null ? null : value;
    }

    private ModelException Missing(string key) => new($"{Source}: '{key}' is missing.");

    private ModelException Wrong(string key, JsonElement value, string expected)
    {
        var text = value.GetRawText().ReplaceLineEndings(" ");
        return new ModelException($"{Source}: '{key}' is {(text.Length <= 40 ? text : text[..40] + "...")}; it must be {expected}.");
    }
}

/// <summary>A parsed file; the fields are valid until it is disposed.</summary>
internal sealed class JsonFile(JsonDocument document, JsonFields root) : IDisposable
{
    public JsonFields Root { get; } = root;

    public void Dispose() => document.Dispose();
}
