using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Internal;

namespace OrtBatchInvariant;

/// <summary>Which kernel serves each node of a session, and whether its result can depend on the batch.</summary>
public sealed class CoverageReport
{
    private CoverageReport(string provider, string device, string selfTest, StreamUse? streams, string instructionSet, IReadOnlyList<CoverageNode> nodes)
    {
        Provider = provider;
        Device = device;
        SelfTest = selfTest;
        Streams = streams;
        InstructionSet = instructionSet;
        Nodes = nodes;
        VaryingNodes = [.. nodes.Where(node => node.ServedBy == ServedBy.StockVarying)];
    }

    /// <summary>The name of the execution provider.</summary>
    public string Provider { get; }

    /// <summary>The device: <c>cpu</c>, or <c>cuda:0</c> and the GPU's name.</summary>
    public string Device { get; }

    /// <summary>What the process compared on a GPU before it took it: numbers of comparisons and results, and the time. Empty on the
    /// CPU.</summary>
    public string SelfTest { get; }

    /// <summary>Where the kernels of a session on a GPU enqueued until this report was read; null on the CPU.</summary>
    public StreamUse? Streams { get; }

    /// <summary>The instruction set of the kernels, for example <c>avx2</c>.</summary>
    public string InstructionSet { get; }

    /// <summary>Every node of the graph after ONNX Runtime's first rewrites, subgraphs included.</summary>
    public IReadOnlyList<CoverageNode> Nodes { get; }

    /// <summary>The nodes whose results can depend on the batch.</summary>
    public IReadOnlyList<CoverageNode> VaryingNodes { get; }

    /// <summary>The report of the session that was created from these options.</summary>
    /// <param name="sessionOptions">Options that <see cref="SessionOptionsExtensions.AppendBatchInvariant"/> was called on.</param>
    /// <exception cref="BatchInvariantException">The provider was not appended to them, or no session was created from them yet.</exception>
    public static CoverageReport ForSession(SessionOptions sessionOptions)
    {
        ArgumentNullException.ThrowIfNull(sessionOptions);
        return CoverageReportLease.ReadFor(
            sessionOptions, $"these {nameof(SessionOptions)}", nameof(SessionOptionsExtensions.AppendBatchInvariant));
    }

    /// <summary>The report of the latest session created with this <see cref="BatchInvariantOptions.ReportId"/>.</summary>
    /// <exception cref="BatchInvariantException">There is no such report.</exception>
    public static CoverageReport Get(string reportId)
    {
        ArgumentNullException.ThrowIfNull(reportId);
        return NativeCoverageReports.TryRead(reportId) is { } json
            ? Parse(json)
            : throw new BatchInvariantException(
                $"There is no coverage report '{reportId}': create a session with this {nameof(BatchInvariantOptions.ReportId)} first.");
    }

    /// <summary>
    /// What would serve each node of a model file as it stands: with no optimization of ONNX Runtime, and without a session or a look
    /// at its weights. Nodes of the domain <see cref="BatchInvariantProvider.CustomOpDomain"/> are served by the custom-op library.
    /// </summary>
    /// <param name="modelPath">The <c>.onnx</c> file.</param>
    /// <param name="onCuda">
    /// Whether it is to run on a GPU, which this machine need not have: there the provider serves other ops and types, and custom ops run
    /// beside ONNX Runtime's CUDA provider.
    /// </param>
    /// <returns>The nodes after model-local functions are inlined; constants are none.</returns>
    /// <exception cref="BatchInvariantException">The provider cannot be registered.</exception>
    /// <exception cref="OnnxRuntimeException">ONNX Runtime cannot load the model, or the library was built without CUDA.</exception>
    public static CoverageReport ForModel(string modelPath, bool onCuda = false)
    {
        ArgumentNullException.ThrowIfNull(modelPath);
        using var sessionOptions = new SessionOptions
        {
            GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL,
            LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
        };
        var lease = new CoverageReportLease(null);
        sessionOptions.AppendBatchInvariant(new BatchInvariantOptions { Strict = false, DryRun = true, PlansForCuda = onCuda, ReportId = lease.ReportId });
        sessionOptions.RegisterCustomOpLibraryV2(BatchInvariantProvider.GetLibraryPath(), out _);
        try
        {
            new InferenceSession(modelPath, sessionOptions).Dispose();
        }
        catch (OnnxRuntimeException exception) when (exception.Message.Contains("dry run", StringComparison.Ordinal))
        {
            // As asked. A graph of ops that nobody knows cannot be ended this way; then the session's own error comes through.
        }

        string? json = NativeCoverageReports.TryRead(lease.ReportId);
        GC.KeepAlive(lease);
        return json is not null ? Parse(json) : new CoverageReport(BatchInvariantProvider.Name, "cpu", "", null, "", []);
    }

    /// <summary>Frees the native copy of a report. Reports that were read already stay valid.</summary>
    public static void Release(string reportId)
    {
        ArgumentNullException.ThrowIfNull(reportId);
        NativeCoverageReports.Release(reportId);
    }

    /// <summary>Reads a report from its JSON form.</summary>
    /// <exception cref="BatchInvariantException">The text is not a coverage report.</exception>
    public static CoverageReport Parse(string json)
    {
        ArgumentNullException.ThrowIfNull(json);
        try
        {
            CoverageReportJson? report = JsonSerializer.Deserialize(json, CoverageReportJsonContext.Default.CoverageReportJson);
            if (report is { Provider: { } provider, Device: { } device, InstructionSet: { } instructionSet, Nodes: { } nodes })
            {
                return new CoverageReport(provider, device, report.SelfTest, report.Streams, instructionSet, nodes);
            }
        }
        catch (JsonException exception)
        {
            throw new BatchInvariantException($"The coverage report is not valid: {exception.Message}", exception);
        }

        throw new BatchInvariantException("The coverage report is not valid: it is null.");
    }

    /// <summary>The nodes counted by op, domain, who serves them, contract and reason, in order of first appearance.</summary>
    public IReadOnlyList<CoverageSummary> Summarize() =>
    [
        .. Nodes
            .GroupBy(node => (node.Op, node.Domain, node.ServedBy, node.Contract, node.Reason))
            .Select(group => new CoverageSummary(
                group.Key.Op, group.Key.Domain, group.Key.ServedBy, group.Key.Contract, group.Key.Reason, group.Count())),
    ];

    /// <summary>Throws if any node can vary.</summary>
    /// <exception cref="BatchInvariantException">Names the first such node, the reason and how many more there are.</exception>
    public void ThrowIfVarying()
    {
        if (VaryingNodes is [var node, ..])
        {
            string others = (VaryingNodes.Count - 1) switch
            {
                0 => "",
                1 => "; 1 other node can as well",
                int count => $"; {count} other nodes can as well",
            };
            throw new BatchInvariantException($"Node '{node.Name}' ({node.Op}) can vary with the batch: {node.Reason}{others}.");
        }
    }

    /// <summary>One line: the number of nodes and who serves them.</summary>
    public override string ToString() =>
        $"{Nodes.Count} nodes on {Device} ({InstructionSet}): {Count(ServedBy.BatchInvariant)} by {Provider}, "
        + $"{Count(ServedBy.StockInvariant)} by stock kernels that do not vary, {VaryingNodes.Count} by stock kernels that can vary";

    private int Count(ServedBy servedBy) => Nodes.Count(node => node.ServedBy == servedBy);
}
