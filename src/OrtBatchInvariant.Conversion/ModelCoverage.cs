using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Models.Onnx;

namespace OrtBatchInvariant.Conversion;

/// <summary>A node of a model file, and what serves it.</summary>
/// <param name="Node">The node; null for one that ONNX Runtime makes itself, of an operator that it takes apart.</param>
/// <param name="Coverage">What serves it, under the node's own name.</param>
public sealed record NodeCoverage(NodeInfo? Node, CoverageNode Coverage);

/// <summary>What serves each node of a model file, before any session: none is loaded, and no weight is read.</summary>
public sealed class ModelCoverage
{
    private ModelCoverage(IReadOnlyList<NodeCoverage> nodes, CoverageReport report)
    {
        Nodes = nodes;
        Device = report.Device;
        InstructionSet = report.InstructionSet;
        Tensors = report.Nodes.SelectMany(node => node.Outputs)
            .GroupBy(output => output.Name)
            .Where(group => group.Count() == 1)
            .ToDictionary(group => group.Key, group => group.Single());
        VaryingNodes = [.. nodes.Where(node => node.Coverage.ServedBy == ServedBy.StockVarying)];
    }

    /// <summary>Every node of the file: of the main graph, subgraphs and functions, in file order.</summary>
    public IReadOnlyList<NodeCoverage> Nodes { get; }

    /// <summary>The nodes whose results can depend on the batch.</summary>
    public IReadOnlyList<NodeCoverage> VaryingNodes { get; }

    /// <summary>The tensors that nodes make, by name; not those whose name means several, in branches for example.</summary>
    internal IReadOnlyDictionary<string, CoverageOutput> Tensors { get; }

    /// <summary>The kind of device: <c>cpu</c> or <c>cuda</c>.</summary>
    public string Device { get; }

    /// <summary>The instruction set of the kernels, for example <c>avx2</c>.</summary>
    public string InstructionSet { get; }

    /// <summary>Looks at a model: checks its graph, and asks the provider about every node.</summary>
    /// <param name="model">The model; its weights stay where they are.</param>
    /// <param name="onCuda">Whether it is to run on a GPU, as in <see cref="CoverageReport.ForModel"/>.</param>
    /// <exception cref="ModelException">The model is broken, or ONNX Runtime cannot load it.</exception>
    /// <exception cref="BatchInvariantException">The provider's library is missing or cannot be used.</exception>
    public static ModelCoverage Of(OnnxModel model, bool onCuda = false)
    {
        ArgumentNullException.ThrowIfNull(model);
        GraphCheck.Check(model);
        CoverageReport report;
        using (var skeleton = new ModelSkeleton(model))
        {
            try
            {
                report = CoverageReport.ForModel(skeleton.Path, onCuda);
            }
            catch (OnnxRuntimeException exception)
            {
                throw new ModelException(
                    $"{model.Path ?? "model"}: ONNX Runtime cannot load it ({OneLine(exception.Message, skeleton.Path)}).", exception);
            }
        }

        IReadOnlyList<NodeInfo> nodes = GraphInspector.Nodes(model);
        ILookup<int, CoverageNode> byIndex = report.Nodes
            .Where(node => ModelSkeleton.IndexOf(node.Name) is { } index && index < nodes.Count)
            .ToLookup(node => ModelSkeleton.IndexOf(node.Name)!.Value);
        IEnumerable<NodeCoverage> ofFile = nodes.Select((node, index) => new NodeCoverage(node, Merge(node, [.. byIndex[index]])));
        // The parts of an operator that ONNX Runtime took apart have names of its own.
        IEnumerable<NodeCoverage> others = report.Nodes
            .Where(node => ModelSkeleton.IndexOf(node.Name) is null)
            .Select(node => new NodeCoverage(null, node));
        return new ModelCoverage([.. ofFile, .. others], report);
    }

    /// <summary>
    /// Compares with what a session did: every node that a kernel of the provider was to serve has one, no other has, and nothing
    /// varies that was not said to.
    /// </summary>
    /// <param name="session">The report of a session of the same model; ONNX Runtime may have fused nodes in it.</param>
    /// <returns>One sentence for each difference.</returns>
    public IReadOnlyList<string> Compare(CoverageReport session)
    {
        ArgumentNullException.ThrowIfNull(session);
        var differences = new List<string>();
        ILookup<(string, string), ServedBy> planned = Nodes
            .Where(node => node.Coverage.Name.Length > 0)
            .ToLookup(node => (node.Coverage.Name, node.Coverage.Op), node => node.Coverage.ServedBy);
        foreach (CoverageNode node in session.Nodes)
        {
            bool isOurs = node.ServedBy == ServedBy.BatchInvariant && node.Domain != BatchInvariantProvider.CustomOpDomain;
            if (isOurs != node.HasKernel)
            {
                differences.Add(
                    $"Node '{node.Name}' ({node.Op}) {(isOurs ? "was planned for the provider, which got no kernel to make for it" : $"got a kernel of the provider that was not planned: {node.Reason}")}.");
            }

            ServedBy[] expected = [.. planned[(node.Name, node.Op)].Distinct()];
            if (expected is [var only] ? only != node.ServedBy : expected.Length == 0 && node.ServedBy == ServedBy.StockVarying)
            {
                differences.Add($"Node '{node.Name}' ({node.Op}) is served otherwise in a session than the file says: {node.Reason}.");
            }
        }

        return differences;
    }

    private static CoverageNode Merge(NodeInfo node, CoverageNode[] instances)
    {
        CoverageNode? worst = instances.MaxBy(instance => instance.ServedBy);
        // A constant is no node to a runtime; neither is a call that it inlined, or a function that nothing calls.
        worst ??= new CoverageNode("", node.OpType, node.Domain, ServedBy.StockInvariant, "", "");
        bool sameCustomOp = instances.Length > 0 && instances.All(instance => instance.CustomOp == instances[0].CustomOp);
        return worst with { Name = node.Name, CustomOp = sameCustomOp ? worst.CustomOp : "" };
    }

    private static string OneLine(string message, string path) =>
        message.ReplaceLineEndings(" ").Replace(path, "the model", StringComparison.Ordinal).Trim().TrimEnd('.');
}
