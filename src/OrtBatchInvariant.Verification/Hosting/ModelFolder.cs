using System.Text.Json;

namespace OrtBatchInvariant.Verification.Hosting;

/// <summary>A model folder in the layout of ONNX Runtime GenAI, checked before anything native reads it, or a bare decoder file.</summary>
public sealed class ModelFolder
{
    private const string ConfigName = "genai_config.json";

    // GenAI needs one of these beside tokenizer_config.json to make a tokenizer.
    private static readonly string[] s_tokenizerFiles = ["tokenizer.json", "tokenizer.model", "tokenizer.bin"];

    private ModelFolder(string decoderFile)
    {
        Path = System.IO.Path.GetDirectoryName(decoderFile)!;
        DecoderFile = decoderFile;
        Name = System.IO.Path.GetFileNameWithoutExtension(decoderFile);
        EosTokenIds = [];
        LogitsName = "logits";
    }

    private ModelFolder(string path, string decoderFile, JsonElement root, JsonElement model)
    {
        Path = path;
        DecoderFile = decoderFile;
        Name = System.IO.Path.GetFileName(path);
        Config = root;
        ContextLength = Number(path, model, "context_length");
        VocabularySize = Number(path, model, "vocab_size");
        EosTokenIds = Numbers(path, model, "eos_token_id");
        PadTokenId = model.TryGetProperty("pad_token_id", out _) ? Number(path, model, "pad_token_id") : EosTokenIds[0];
        LogitsName = model.GetProperty("decoder").TryGetProperty("outputs", out JsonElement outputs)
            && outputs.ValueKind == JsonValueKind.Object
            && outputs.TryGetProperty("logits", out JsonElement logits) && logits.ValueKind == JsonValueKind.String
                ? logits.GetString()! : "logits";
    }

    /// <summary>The folder, as an absolute path.</summary>
    public string Path { get; }

    /// <summary>The folder's name; of a bare decoder its file's.</summary>
    public string Name { get; }

    /// <summary>The decoder's <c>.onnx</c> file.</summary>
    public string DecoderFile { get; }

    /// <summary>What <c>genai_config.json</c> holds; null for a bare decoder.</summary>
    public JsonElement? Config { get; }

    /// <summary>The most tokens that a sequence can have; 0 for a bare decoder, which does not say.</summary>
    public int ContextLength { get; }

    /// <summary>The number of logits of a position; 0 for a bare decoder.</summary>
    public int VocabularySize { get; }

    /// <summary>The tokens that end a completion; at least one, but none for a bare decoder.</summary>
    public IReadOnlyList<int> EosTokenIds { get; }

    /// <summary>The token that fills the shorter rows of a batch.</summary>
    public int PadTokenId { get; }

    /// <summary>The name of the decoder's output that holds the logits.</summary>
    public string LogitsName { get; }

    /// <summary>Whether the folder holds a tokenizer. Without one, a model is driven by token ids.</summary>
    public bool HasTokenizer => Config is not null && s_tokenizerFiles.Any(name => File.Exists(System.IO.Path.Combine(Path, name)));

    /// <summary>Opens a folder, or a decoder's <c>.onnx</c> file that has no <c>genai_config.json</c>.</summary>
    /// <param name="path">The folder or the file.</param>
    /// <exception cref="VerificationException">As for <see cref="Open"/>, or the file is missing.</exception>
    public static ModelFolder OpenDecoder(string path)
    {
        if (Directory.Exists(path) && !File.Exists(System.IO.Path.Combine(path, ConfigName)) && Directory.EnumerateFiles(path, "*.onnx").Order().FirstOrDefault() is { } bare)
        {
            throw new VerificationException($"{path}: holds no {ConfigName}; name the decoder's file itself, as in {bare}.");
        }

        if (Directory.Exists(path) || !System.IO.Path.GetExtension(path).Equals(".onnx", StringComparison.OrdinalIgnoreCase))
        {
            return Open(path);
        }

        string file = System.IO.Path.GetFullPath(path);
        return File.Exists(file) ? new ModelFolder(file) : throw new VerificationException($"{path}: no such model file.");
    }

    /// <summary>Opens and checks a folder.</summary>
    /// <param name="path">The folder.</param>
    /// <exception cref="VerificationException">There is no such folder, its <c>genai_config.json</c> is missing or malformed, or the
    /// decoder's file is missing or empty.</exception>
    public static ModelFolder Open(string path)
    {
        string full = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(path));
        if (File.Exists(full))
        {
            throw new VerificationException($"{path}: is a file; name the model folder that holds {ConfigName}.");
        }

        if (!Directory.Exists(full))
        {
            throw new VerificationException($"{path}: no such model folder.");
        }

        string configPath = System.IO.Path.Combine(full, ConfigName);
        if (!File.Exists(configPath))
        {
            throw new VerificationException(
                $"{path}: not a GenAI model folder, it holds no {ConfigName}; make one from a Hugging Face checkpoint with `ortbi export`.");
        }

        JsonElement root;
        try
        {
            using var document = JsonDocument.Parse(
                File.ReadAllBytes(configPath), new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
            root = document.RootElement.Clone();
        }
        catch (JsonException exception)
        {
            throw new VerificationException($"{configPath}: not valid JSON, see line {exception.LineNumber + 1}.", exception);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new VerificationException($"{configPath}: cannot be read ({exception.Message.TrimEnd('.')}).", exception);
        }

        JsonElement model = Object(configPath, root, "model");
        JsonElement decoder = Object(configPath, model, "decoder");
        if (!decoder.TryGetProperty("filename", out JsonElement filename) || filename.ValueKind != JsonValueKind.String)
        {
            throw new VerificationException($"{configPath}: 'model.decoder.filename' is missing or not a string.");
        }

        string decoderFile = System.IO.Path.Combine(full, filename.GetString()!);
        return File.Exists(decoderFile)
            ? new ModelFolder(full, decoderFile, root, model)
            : throw new VerificationException($"{decoderFile}: no such model file, though {ConfigName} names it.");
    }

    private static JsonElement Object(string configPath, JsonElement parent, string name) =>
        parent.ValueKind == JsonValueKind.Object && parent.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Object
            ? value
            : throw new VerificationException($"{configPath}: the object '{name}' is missing.");

    private static int Number(string path, JsonElement model, string name) =>
        Numbers(path, model, name) is [var single] ? single : throw Malformed(path, name);

    private static IReadOnlyList<int> Numbers(string path, JsonElement model, string name)
    {
        if (!model.TryGetProperty(name, out JsonElement value))
        {
            throw Malformed(path, name);
        }

        JsonElement[] elements = value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray()] : [value];
        var numbers = new int[elements.Length];
        for (int i = 0; i < elements.Length; i++)
        {
            if (elements[i].ValueKind != JsonValueKind.Number || !elements[i].TryGetInt32(out numbers[i]) || numbers[i] < 0)
            {
                throw Malformed(path, name);
            }
        }

        return numbers.Length > 0 ? numbers : throw Malformed(path, name);
    }

    private static VerificationException Malformed(string path, string name) =>
        new($"{System.IO.Path.Combine(path, ConfigName)}: 'model.{name}' is missing or not a number of 0 or more.");
}
