using System.Text;
using System.Text.Json;
using OrtBatchInvariant.Models;

namespace OrtBatchInvariant.Conversion;

/// <summary>
/// The <c>genai_config.json</c> of a model folder: which model files it names, and where their sessions get the custom-op library
/// from. The text is edited in place, so that formatting, comments and unknown entries stay as they are.
/// </summary>
internal sealed class GenAIConfigFile
{
    internal const string Name = "genai_config.json";

    private const string FileKey = "filename";
    private const string SessionKey = "session_options";
    private const string LibraryKey = "custom_ops_library";

    private readonly string _path;
    private readonly List<Session> _sessions = [];

    private GenAIConfigFile(string path, byte[] content)
    {
        _path = path;
        Content = content;
        ReadSessions();
    }

    internal byte[] Content { get; }

    /// <summary>The model files, relative to the folder, each once.</summary>
    internal IReadOnlyList<string> ModelFiles => [.. _sessions.Select(session => session.File).Distinct()];

    /// <summary>The configuration of a folder, or null if the folder has none.</summary>
    internal static GenAIConfigFile? Read(string folder)
    {
        string path = Path.Combine(folder, Name);
        return File.Exists(path) ? new GenAIConfigFile(path, File.ReadAllBytes(path)) : null;
    }

    /// <summary>The text with the library named for every session that does not name it yet.</summary>
    internal GenAIConfigFile WithLibrary(string library)
    {
        if (_sessions.FirstOrDefault(session => session.Library is { } other && other != library) is { Library: { } taken } session)
        {
            throw new ModelException($"{_path}: '{session.File}' has the {LibraryKey} '{taken}' already, and GenAI loads one only; the model cannot use both.");
        }

        var text = new MemoryStream();
        int copied = 0;
        foreach (Session open in _sessions.Where(session => session.Library is null).OrderBy(session => session.InsertAt))
        {
            text.Write(Content, copied, open.InsertAt - copied);
            text.Write(Encoding.UTF8.GetBytes(Insertion(open, library)));
            copied = open.InsertAt;
        }

        text.Write(Content, copied, Content.Length - copied);
        return new GenAIConfigFile(_path, text.ToArray());
    }

    /// <summary>The text as it was before <see cref="WithLibrary"/>.</summary>
    internal GenAIConfigFile WithoutLibrary(string library)
    {
        string text = Encoding.Latin1.GetString(Content);
        foreach (bool hasOptions in (bool[])[false, true])
        {
            foreach (bool isLast in (bool[])[false, true])
            {
                text = text.Replace(Insertion(hasOptions, isLast, library), "", StringComparison.Ordinal);
            }
        }

        return new GenAIConfigFile(_path, Encoding.Latin1.GetBytes(text));
    }

    private static string Insertion(Session session, string library) => Insertion(session.HasOptions, session.IsEmpty, library);

    private static string Insertion(bool hasOptions, bool isLast, string library)
    {
        string entry = $" \"{LibraryKey}\": \"{library}\"";
        string whole = hasOptions ? entry : $" \"{SessionKey}\": {{{entry} }}";
        return isLast ? whole : $"{whole},";
    }

    private void ReadSessions()
    {
        var open = new Stack<Scope>();
        try
        {
            // The reader does not know the mark that some editors begin a file with.
            int start = Content.AsSpan().StartsWith(Encoding.UTF8.Preamble) ? Encoding.UTF8.Preamble.Length : 0;
            var reader = new Utf8JsonReader(
                Content.AsSpan(start), new JsonReaderOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
            string? key = null;
            while (reader.Read())
            {
                int after = start + (int)reader.BytesConsumed;
                switch (reader.TokenType)
                {
                    case JsonTokenType.PropertyName:
                        key = reader.GetString();
                        open.Peek().IsEmpty = false;
                        break;
                    case JsonTokenType.StartObject:
                        open.Push(new Scope(key, after));
                        key = null;
                        break;
                    case JsonTokenType.EndObject:
                        Close(open.Pop(), open.Count > 0 ? open.Peek() : null);
                        break;
                    case JsonTokenType.String when open.Count > 0 && key == FileKey:
                        open.Peek().File = reader.GetString();
                        break;
                    case JsonTokenType.String when open.Count > 0 && key == LibraryKey:
                        open.Peek().Library = reader.GetString();
                        break;
                }

                if (reader.TokenType is not JsonTokenType.PropertyName)
                {
                    key = null;
                }
            }
        }
        catch (JsonException exception)
        {
            throw new ModelException($"{_path}: not valid JSON, see line {exception.LineNumber + 1}.", exception);
        }

        if (_sessions.Count == 0)
        {
            throw new ModelException($"{_path}: names no model file.");
        }
    }

    private void Close(Scope scope, Scope? parent)
    {
        if (scope.Key == SessionKey && parent is not null)
        {
            parent.Options = scope;
        }

        if (scope.File?.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase) == true)
        {
            Scope place = scope.Options ?? scope;
            _sessions.Add(new Session(scope.File, place.After, scope.Options is not null, place.IsEmpty, scope.Options?.Library));
        }
    }

    /// <summary>An object that names a model file, and where its session's options go.</summary>
    private sealed record Session(string File, int InsertAt, bool HasOptions, bool IsEmpty, string? Library);

    /// <summary>An object that is being read: the key it stands under, and the byte after its opening brace.</summary>
    private sealed class Scope(string? key, int after)
    {
        public string? Key { get; } = key;

        public int After { get; } = after;

        public bool IsEmpty { get; set; } = true;

        public string? File { get; set; }

        public string? Library { get; set; }

        public Scope? Options { get; set; }
    }
}
