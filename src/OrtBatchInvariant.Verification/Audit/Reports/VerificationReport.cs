using System.Text.Json;
using System.Text.Json.Serialization;
using OrtBatchInvariant.Verification.Audit.Serving;

namespace OrtBatchInvariant.Verification.Audit.Reports;

/// <summary>Everything that one call of `ortbi verify` found.</summary>
/// <param name="Date">The day, in UTC.</param>
/// <param name="Command">The command line.</param>
/// <param name="Audits">The audits, a provider each.</param>
/// <param name="Completions">The experiments with completions, a provider each.</param>
public sealed record VerificationReport(string Date, string Command, IReadOnlyList<AuditResult> Audits, IReadOnlyList<ServingResult> Completions)
{
    /// <summary>False if it was stopped before the end.</summary>
    public bool IsComplete { get; init; } = true;

    /// <summary>Whether something was compared and nothing differed.</summary>
    [JsonIgnore]
    public bool IsInvariant => Audits.Count + Completions.Count > 0 && Audits.All(audit => audit.IsInvariant) && Completions.All(result => result.IsInvariant);

    /// <summary>The report as JSON.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, AuditJson.Default.VerificationReport) + "\n";

    /// <summary>Reads what <see cref="ToJson"/> wrote.</summary>
    /// <exception cref="VerificationException">The text is something else.</exception>
    public static VerificationReport Parse(string json)
    {
        try
        {
            if (JsonSerializer.Deserialize(json, AuditJson.Default.VerificationReport) is { Audits: not null, Completions: not null } report)
            {
                return report;
            }
        }
        catch (JsonException exception)
        {
            throw new VerificationException($"Not a report of `ortbi verify`: {exception.Message}", exception);
        }

        throw new VerificationException("Not a report of `ortbi verify`: it has no audits.");
    }
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(VerificationReport))]
[JsonSerializable(typeof(LogitsDigests))]
internal sealed partial class AuditJson : JsonSerializerContext;
