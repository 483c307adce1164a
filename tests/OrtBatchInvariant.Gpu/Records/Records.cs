using System.Text.Json.Serialization;

namespace OrtBatchInvariant.Gpu.Records;

/// <summary>One thing that was checked.</summary>
internal sealed record Check(string Name, bool Passed, string Detail)
{
    public string? Model { get; init; }

    public string? Kernels { get; init; }

    public string? Axis { get; init; }

    public long? ElementsCompared { get; init; }

    public long? ElementsDifferent { get; init; }

    public int? Completions { get; init; }

    public int? UniqueLogits { get; init; }

    public int? UniqueCompletions { get; init; }
}

/// <summary>What one command, or one GoogleTest program, found.</summary>
internal sealed record CheckRecord(string Subject, bool IsComplete, string Commit, string Onnxruntime, double Seconds, IReadOnlyList<Check> Checks);

/// <summary>What `ortbi demo --json` wrote, as far as it is a check.</summary>
internal sealed record DemoRecord(bool? Passed, double Seconds);

/// <summary>Elements compared bit for bit along one axis.</summary>
internal sealed record AxisTotal(string Kernels, string Axis, long ElementsCompared, long ElementsDifferent);

/// <summary>All checks of one device.</summary>
internal sealed record SummaryRecord(
    string Device, string Date, string Commit, int Passed, int Failed, long ElementsCompared, IReadOnlyList<AxisTotal> Axes, IReadOnlyList<CheckRecord> Programs);

/// <summary>One row of a benchmark. End-to-end decoding has tokens per second, prefill too.</summary>
internal sealed record BenchmarkRow(
    string Subject, string Op, string Shape, string Dtype, int Rows, string Peer, double? PeerMicroseconds, double Microseconds, double FloorMicroseconds,
    double? PeerTokensPerSecond, double? TokensPerSecond, double? Ratio);

/// <summary>A benchmark. What was asked for and not measured is listed with the reason; null if there is nothing.</summary>
internal sealed record BenchmarkRecord(
    string Device, string Date, string Command, string Commit, string Onnxruntime, IReadOnlyList<BenchmarkRow> Rows, IReadOnlyList<string>? NotMeasured);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = true, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(CheckRecord))]
[JsonSerializable(typeof(DemoRecord))]
[JsonSerializable(typeof(SummaryRecord))]
[JsonSerializable(typeof(BenchmarkRecord))]
internal sealed partial class RecordContext : JsonSerializerContext;
