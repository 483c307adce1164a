using System.Text.Json.Serialization;

namespace OrtBatchInvariant;

/// <summary>One node of a session's graph, in a <see cref="CoverageReport"/>.</summary>
/// <param name="Name">The node's name in the graph.</param>
/// <param name="Op">The operator, for example <c>MatMulNBits</c>.</param>
/// <param name="Domain">The operator's domain; empty for ONNX's own.</param>
/// <param name="ServedBy">Whose kernel runs it.</param>
/// <param name="Contract">The id of the arithmetic contract that the kernel keeps, for example <c>gemm.f32.v1</c>; empty for stock kernels.</param>
/// <param name="Reason">Why the node was left to a kernel that varies. Of control flow, which does not, what all rows share: one condition for the
/// whole batch. Empty otherwise.</param>
public sealed record CoverageNode(string Name, string Op, string Domain, ServedBy ServedBy, string Contract, string Reason)
{
    /// <summary>The op of the domain <see cref="BatchInvariantProvider.CustomOpDomain"/> that does the same; empty where there is none.</summary>
    public string CustomOp { get; init => field = value ?? ""; } = "";

    /// <summary>Its outputs that are tensors; only of <see cref="CoverageReport.ForModel"/>.</summary>
    public IReadOnlyList<CoverageOutput> Outputs { get; init => field = value ?? []; } = [];

    /// <summary>Whether the session created a kernel of the provider for it: what happened, where <see cref="ServedBy"/> is the plan.</summary>
    public bool HasKernel { get; init; }
}

/// <summary>An output of a node.</summary>
/// <param name="Name">The value's name.</param>
/// <param name="ElementType">Its element type, as ONNX counts them.</param>
/// <param name="Shape">Sizes and names of its dimensions, an empty one for what is not known; none when the rank is 0 or not known.</param>
public sealed record CoverageOutput(string Name, int ElementType, IReadOnlyList<string> Shape);

/// <summary>How many nodes of a session share op, domain, server, contract and reason.</summary>
/// <param name="Op">The operator.</param>
/// <param name="Domain">The operator's domain; empty for ONNX's own.</param>
/// <param name="ServedBy">Whose kernel runs these nodes.</param>
/// <param name="Contract">The arithmetic contract; empty for stock kernels.</param>
/// <param name="Reason">As in <see cref="CoverageNode"/>.</param>
/// <param name="Nodes">How many nodes these are.</param>
public sealed record CoverageSummary(string Op, string Domain, ServedBy ServedBy, string Contract, string Reason, int Nodes);

/// <summary>Whose kernel runs a node.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<ServedBy>))]
public enum ServedBy
{
    /// <summary>A kernel of the batch-invariant provider.</summary>
    [JsonStringEnumMemberName("batch-invariant")]
    BatchInvariant,

    /// <summary>A stock kernel whose result for a row depends on that row alone.</summary>
    [JsonStringEnumMemberName("stock-invariant")]
    StockInvariant,

    /// <summary>A stock kernel whose result can depend on the batch.</summary>
    [JsonStringEnumMemberName("stock-varying")]
    StockVarying,
}
