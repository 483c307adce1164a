using System.Globalization;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Onnx;

/// <summary>An input or output of a node.</summary>
/// <param name="Name">Name of the value; empty for an optional one that is left out.</param>
/// <param name="ElementType">Element type if the model states it, otherwise null.</param>
/// <param name="Shape">Dimensions if the model states them: sizes, names, or <c>?</c>; otherwise null.</param>
/// <param name="IsConstant">Whether it is an initializer or comes from a Constant node.</param>
public sealed record NodeValue(string Name, DataType? ElementType, IReadOnlyList<string>? Shape, bool IsConstant);

/// <summary>A node as a user can find it.</summary>
/// <param name="Name">Its name, or <c>{op}_{index}</c> if the model gives it none.</param>
/// <param name="OpType">Operator.</param>
/// <param name="Domain">Operator's domain; empty for ONNX's own.</param>
/// <param name="OpsetVersion">Version of the domain's operator set that the model imports; null if it imports none.</param>
/// <param name="Graph">
/// Empty for the main graph; otherwise the path of the subgraph or function, such as <c>/model/If.then_branch</c>.
/// </param>
/// <param name="Inputs">Its inputs in order.</param>
/// <param name="Outputs">Its outputs in order.</param>
/// <param name="Proto">The node itself, with its attributes.</param>
public sealed record NodeInfo(
    string Name,
    string OpType,
    string Domain,
    long? OpsetVersion,
    string Graph,
    IReadOnlyList<NodeValue> Inputs,
    IReadOnlyList<NodeValue> Outputs,
    NodeProto Proto);

/// <summary>Lists the nodes of a model, those of subgraphs and functions included.</summary>
public static class GraphInspector
{
    /// <summary>All nodes in file order, each followed by the nodes of its subgraphs; functions come last.</summary>
    /// <param name="model">The model.</param>
    public static IReadOnlyList<NodeInfo> Nodes(OnnxModel model)
    {
        var nodes = new List<NodeInfo>();
        AddGraph(nodes, model.Proto.Graph, path: string.Empty, outer: null, Versions(model.Proto.OpsetImport));
        foreach (var function in model.Proto.Functions)
        {
            var scope = new Scope(outer: null);
            scope.AddStated(function.ValueInfo);
            var path = $"function {function.Domain}:{function.Name}";
            AddNodes(nodes, function.Node, path, scope, Versions(function.OpsetImport));
        }

        return nodes;
    }

    private static void AddGraph(List<NodeInfo> nodes, GraphProto graph, string path, Scope? outer, Dictionary<string, long> versions)
    {
        var scope = new Scope(outer);
        scope.AddStated(graph.Input);
        scope.AddStated(graph.Output);
        scope.AddStated(graph.ValueInfo);
        foreach (var tensor in graph.Initializer)
        {
            scope.AddConstant(tensor.Name, tensor);
        }

        foreach (var sparse in graph.SparseInitializer)
        {
            if (sparse.Values is { } values)
            {
                scope.Add(new NodeValue(values.Name, (DataType)values.DataType, Text(sparse.Dims), IsConstant: true));
            }
        }

        AddNodes(nodes, graph.Node, path, scope, versions);
    }

    private static void AddNodes(
        List<NodeInfo> nodes, IEnumerable<NodeProto> protos, string path, Scope scope, Dictionary<string, long> versions)
    {
        var index = 0;
        foreach (var proto in protos)
        {
            if (proto.OpType == "Constant" && IsOnnxDomain(proto.Domain) && proto.Output.Count == 1)
            {
                scope.AddConstant(proto.Output[0], proto.Attribute.FirstOrDefault(a => a.Name == "value")?.T);
            }

            var name = proto.Name.Length > 0 ? proto.Name : $"{proto.OpType}_{index}";
            nodes.Add(new NodeInfo(
                name,
                proto.OpType,
                IsOnnxDomain(proto.Domain) ? string.Empty : proto.Domain,
                versions.TryGetValue(IsOnnxDomain(proto.Domain) ? string.Empty : proto.Domain, out var version) ? version : null,
                path,
                [.. proto.Input.Select(scope.Find)],
                [.. proto.Output.Select(scope.Find)],
                proto));
            foreach (var (attribute, subgraph) in GraphWalk.Subgraphs(proto))
            {
                AddGraph(nodes, subgraph, path.Length == 0 ? $"{name}.{attribute}" : $"{path}/{name}.{attribute}", scope, versions);
            }

            index++;
        }
    }

    private static bool IsOnnxDomain(string domain) => domain is "" or "ai.onnx";

    private static Dictionary<string, long> Versions(IEnumerable<OperatorSetIdProto> imports)
    {
        var versions = new Dictionary<string, long>(StringComparer.Ordinal);
        foreach (var import in imports)
        {
            versions[IsOnnxDomain(import.Domain) ? string.Empty : import.Domain] = import.Version;
        }

        return versions;
    }

    private static List<string> Text(IEnumerable<long> dims) => [.. dims.Select(dim => dim.ToString(CultureInfo.InvariantCulture))];

    /// <summary>What is known of the values of a graph and of those around it.</summary>
    private sealed class Scope(Scope? outer)
    {
        private readonly Dictionary<string, NodeValue> _values = new(StringComparer.Ordinal);

        public void Add(NodeValue value) => _values[value.Name] = value;

        public void AddStated(IEnumerable<ValueInfoProto> values)
        {
            foreach (var value in values)
            {
                var tensor = value.Type?.TensorType;
                var dims = tensor?.Shape?.Dim.Select(dim => dim.ValueCase switch
                {
                    TensorShapeProto.Types.Dimension.ValueOneofCase.DimValue => Text([dim.DimValue])[0],
                    TensorShapeProto.Types.Dimension.ValueOneofCase.DimParam => dim.DimParam,
                    _ => "?",
                }).ToList();
                Add(new NodeValue(value.Name, tensor is null ? null : (DataType)tensor.ElemType, dims, IsConstant: false));
            }
        }

        public void AddConstant(string name, TensorProto? tensor) =>
            Add(tensor is null
                ? new NodeValue(name, ElementType: null, Shape: null, IsConstant: true)
                : new NodeValue(name, (DataType)tensor.DataType, Text(tensor.Dims), IsConstant: true));

        public NodeValue Find(string name)
        {
            for (var scope = this; scope is not null; scope = scope.Outer)
            {
                if (scope._values.TryGetValue(name, out var value))
                {
                    return value;
                }
            }

            return new NodeValue(name, ElementType: null, Shape: null, IsConstant: false);
        }

        private Scope? Outer { get; } = outer;
    }
}
