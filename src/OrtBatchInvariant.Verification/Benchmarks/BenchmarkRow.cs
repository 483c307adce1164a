using System.Text.Json.Serialization;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>One measurement, ours against a peer's. The same form for every benchmark of this repository.</summary>
public sealed record BenchmarkRow
{
    internal const string StockPeer = "ONNX Runtime CPU";

    /// <summary>What is measured: <c>op</c>, <c>generate</c>, <c>prompt</c>, <c>load</c> or <c>memory</c>.</summary>
    public required string Subject { get; init; }

    /// <summary>The operator, or the model.</summary>
    public required string Op { get; init; }

    /// <summary>The sizes other than the number of rows.</summary>
    public required string Shape { get; init; }

    /// <summary>The type of the weights and, where that matters, of the arithmetic.</summary>
    public required string Dtype { get; init; }

    /// <summary>The number of rows: tokens, or sequences of a batch.</summary>
    public required int Rows { get; init; }

    /// <summary>What ours is compared with.</summary>
    public required string Peer { get; init; }

    /// <summary>The peer's median time.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? PeerMicroseconds { get; init; }

    /// <summary>Our median time.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Microseconds { get; init; }

    /// <summary>The least time that the arithmetic and the memory traffic can take on this machine.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? FloorMicroseconds { get; init; }

    /// <summary>The peer's median rate.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? PeerTokensPerSecond { get; init; }

    /// <summary>Our median rate.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? TokensPerSecond { get; init; }

    /// <summary>The most memory that the peer's process held.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? PeerMegabytes { get; init; }

    /// <summary>The most memory that our process held.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Megabytes { get; init; }

    /// <summary>The peer's time, or memory, over ours: above 1 ours is faster, or smaller.</summary>
    public required double Ratio { get; init; }
}
