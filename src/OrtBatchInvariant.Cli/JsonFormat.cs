using System.Text.Encodings.Web;
using System.Text.Json;

namespace OrtBatchInvariant.Cli;

/// <summary>How the tool writes JSON.</summary>
internal static class JsonFormat
{
    public static JsonSerializerOptions Options { get; } = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        WriteIndented = true,
    };
}
