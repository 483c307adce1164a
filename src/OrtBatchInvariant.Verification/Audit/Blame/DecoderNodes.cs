using System.Globalization;
using System.Text.RegularExpressions;
using Google.Protobuf;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Audit.Blame;

/// <summary>The nodes of a decoder's graph in topological order, each with a name, and graphs made from them.</summary>
internal sealed partial class DecoderNodes
{
    private readonly ModelProto _model;
    private readonly HashSet<string> _constants;
    private readonly HashSet<string> _graphInputs;

    public DecoderNodes(ModelFolder folder)
    {
        _model = OnnxModel.Load(folder.DecoderFile).Proto;
        GraphProto graph = _model.Graph;
        for (int i = 0; i < graph.Node.Count; i++)
        {
            if (graph.Node[i].Name.Length == 0)
            {
                graph.Node[i].Name = $"{graph.Node[i].OpType}_{i.ToString(CultureInfo.InvariantCulture)}";
            }
        }

        _constants =
        [
            .. graph.Initializer.Select(tensor => tensor.Name), .. graph.SparseInitializer.Select(tensor => tensor.Values.Name),
            .. graph.Node.Where(IsConstant).SelectMany(node => node.Output),
        ];
        _graphInputs = [.. graph.Input.Select(input => input.Name).Where(name => !_constants.Contains(name))];
        Nodes = [.. graph.Node.Select((node, order) => (node, order)).Where(item => !IsConstant(item.node)).Select(item => new DecoderNode(item.node, item.order))];
    }

    /// <summary>All but those that hold a constant.</summary>
    public IReadOnlyList<DecoderNode> Nodes { get; }

    /// <summary>What the nodes give, constants aside.</summary>
    public IEnumerable<string> Outputs => Nodes.SelectMany(node => node.Outputs);

    /// <summary>What nodes take that is not constant and not given to the graph.</summary>
    public IEnumerable<string> Inner(IEnumerable<DecoderNode> nodes) =>
        nodes.SelectMany(node => node.Inputs).Where(name => !_constants.Contains(name) && !_graphInputs.Contains(name)).Distinct();

    public bool IsConstantValue(string name) => _constants.Contains(name);

    public bool IsGraphOutput(string name) => _model.Graph.Output.Any(output => output.Name == name);

    /// <summary>The layer that a node's name tells, counted from 0.</summary>
    public static int? LayerOf(string node) =>
        LayerNumber().Match(node) is { Success: true } match ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : null;

    /// <summary>The whole graph, with values inside as further outputs.</summary>
    public byte[] Exposing(IEnumerable<string> values)
    {
        ModelProto copy = _model.Clone();
        copy.Graph.Output.AddRange(values.Select(name => new ValueInfoProto { Name = name }));
        return copy.ToByteArray();
    }

    /// <summary>Nodes side by side, none of which feeds another: what they take that is not constant is the graph's input.</summary>
    /// <param name="nodes">The nodes.</param>
    /// <param name="elementTypes">The element type of each value that is taken, as ONNX numbers them.</param>
    /// <param name="rename">What a value is called as an input, so that it differs from the same value as an output.</param>
    public byte[] Apart(IReadOnlyList<DecoderNode> nodes, IReadOnlyDictionary<string, int> elementTypes, Func<string, string> rename)
    {
        ModelProto copy = _model.Clone();
        GraphProto graph = copy.Graph;
        HashSet<string> taken = [.. nodes.SelectMany(node => node.Inputs)];
        List<NodeProto> constants = [.. graph.Node.Where(node => IsConstant(node) && node.Output.Any(taken.Contains))];
        List<TensorProto> initializers = [.. graph.Initializer.Where(tensor => taken.Contains(tensor.Name))];
        graph.Node.Clear();
        graph.Initializer.Clear();
        graph.Initializer.AddRange(initializers);
        graph.Input.Clear();
        graph.Output.Clear();
        graph.ValueInfo.Clear();
        graph.Node.AddRange(constants);
        foreach (DecoderNode node in nodes)
        {
            NodeProto apart = node.Proto.Clone();
            for (int i = 0; i < apart.Input.Count; i++)
            {
                apart.Input[i] = elementTypes.ContainsKey(apart.Input[i]) ? rename(apart.Input[i]) : apart.Input[i];
            }

            graph.Node.Add(apart);
            graph.Output.AddRange(node.Outputs.Select(name => new ValueInfoProto { Name = name }));
        }

        graph.Input.AddRange(elementTypes.Where(item => taken.Contains(item.Key)).Select(item => new ValueInfoProto
        {
            Name = rename(item.Key), Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = item.Value } },
        }));
        return copy.ToByteArray();
    }

    private static bool IsConstant(NodeProto node) => node.OpType == "Constant" && node.Domain is "" or "ai.onnx" && node.Input.Count == 0;

    [GeneratedRegex(@"(?:layers?|blocks?|h)[./_](\d+)")]
    private static partial Regex LayerNumber();
}

/// <summary>A node.</summary>
internal sealed record DecoderNode(NodeProto Proto, int Order)
{
    public string Name => Proto.Name;

    public string Op => Proto.OpType;

    public IEnumerable<string> Inputs => Proto.Input.Where(name => name.Length > 0);

    public IEnumerable<string> Outputs => Proto.Output.Where(name => name.Length > 0);

    /// <summary>Whether it holds graphs of its own, which may take values of the graph around them.</summary>
    public bool HasSubgraph => Proto.Attribute.Any(attribute => attribute.G is not null || attribute.Graphs.Count > 0);
}
