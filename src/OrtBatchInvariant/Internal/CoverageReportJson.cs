using System.Text.Json.Serialization;

namespace OrtBatchInvariant.Internal;

/// <summary>The JSON form of a coverage report, as the native library writes it.</summary>
internal sealed record CoverageReportJson(
    string Provider, string Device, string InstructionSet, IReadOnlyList<CoverageNode> Nodes, string SelfTest = "", StreamUse? Streams = null);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(CoverageReportJson))]
[JsonSerializable(typeof(IReadOnlyList<InvariantOperator>))]
internal sealed partial class CoverageReportJsonContext : JsonSerializerContext;
