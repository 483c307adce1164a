using OrtBatchInvariant.Models;
using OrtBatchInvariant.Models.Onnx;

namespace OrtBatchInvariant.Conversion;

/// <summary>Turns nodes into custom ops and back. A converted node says in its metadata what it was.</summary>
public static class GraphRewriter
{
    /// <summary>The metadata entry of a converted node: its operator, after its domain and a colon if it stated one.</summary>
    public const string OriginalKey = "ort.batch_invariant.original";

    /// <summary>The metadata entry of a value whose type the conversion stated.</summary>
    private const string AddedKey = "ort.batch_invariant.added";

    /// <summary>Rewrites every node that is served and has a custom op. Weights are not touched.</summary>
    /// <param name="model">The model; its messages are changed.</param>
    /// <param name="coverage">What <see cref="ModelCoverage.Of"/> said of it.</param>
    /// <returns>How many nodes were changed.</returns>
    public static int Convert(OnnxModel model, ModelCoverage coverage)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(coverage);
        int changed = 0;
        foreach ((NodeInfo? info, CoverageNode node) in coverage.Nodes)
        {
            if (info is null || node.CustomOp.Length == 0 || info.Domain == BatchInvariantProvider.CustomOpDomain)
            {
                continue;
            }

            NodeProto proto = info.Proto;
            string original = proto.HasDomain ? $"{proto.Domain}:{proto.OpType}" : proto.OpType;
            proto.MetadataProps.Add(new StringStringEntryProto { Key = OriginalKey, Value = original });
            proto.OpType = node.CustomOp;
            proto.Domain = BatchInvariantProvider.CustomOpDomain;
            changed++;
        }

        if (changed > 0)
        {
            Import(model.Proto.OpsetImport);
            foreach (FunctionProto function in model.Proto.Functions.Where(UsesCustomOps))
            {
                Import(function.OpsetImport);
            }

            StateTypesOfCalls(model.Proto, coverage);
        }

        return changed;
    }

    /// <summary>Turns converted nodes back.</summary>
    /// <param name="model">The model; its messages are changed.</param>
    /// <returns>How many nodes were changed.</returns>
    /// <exception cref="ModelException">A node is a custom op of ours but does not say what it was.</exception>
    public static int Revert(OnnxModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        int changed = 0;
        foreach (NodeInfo info in GraphInspector.Nodes(model).Where(info => info.Domain == BatchInvariantProvider.CustomOpDomain))
        {
            NodeProto proto = info.Proto;
            StringStringEntryProto entry = proto.MetadataProps.LastOrDefault(entry => entry.Key == OriginalKey)
                ?? throw new ModelException(
                    $"{model.Path ?? "model"}: node '{info.Name}' ({info.OpType}) does not say what it was before; it was not made by a conversion.");
            proto.MetadataProps.Remove(entry);
            int colon = entry.Value.LastIndexOf(':');
            proto.OpType = entry.Value[(colon + 1)..];
            if (colon < 0)
            {
                proto.ClearDomain();
            }
            else
            {
                proto.Domain = entry.Value[..colon];
            }

            changed++;
        }

        if (changed > 0)
        {
            RemoveImport(model.Proto.OpsetImport);
            foreach (FunctionProto function in model.Proto.Functions)
            {
                RemoveImport(function.OpsetImport);
            }

            foreach (GraphProto graph in GraphWalk.Graphs(model.Proto))
            {
                foreach (ValueInfoProto stated in graph.ValueInfo.Where(value => value.MetadataProps.Any(entry => entry.Key == AddedKey)).ToList())
                {
                    graph.ValueInfo.Remove(stated);
                }
            }
        }

        return changed;
    }

    /// <summary>ONNX infers no type through a custom op inside a function, so that the outputs of its calls must state theirs.</summary>
    private static void StateTypesOfCalls(ModelProto model, ModelCoverage coverage)
    {
        HashSet<(string, string)> functions = [.. model.Functions.Where(UsesCustomOps).Select(function => (function.Domain, function.Name))];
        if (functions.Count == 0)
        {
            return;
        }

        foreach (GraphProto graph in GraphWalk.Graphs(model))
        {
            HashSet<string> stated = [.. graph.ValueInfo.Concat(graph.Output).Select(value => value.Name)];
            foreach (string output in graph.Node.Where(node => functions.Contains((node.Domain, node.OpType))).SelectMany(node => node.Output))
            {
                if (coverage.ElementTypes.TryGetValue(output, out int type) && stated.Add(output))
                {
                    graph.ValueInfo.Add(new ValueInfoProto
                    {
                        Name = output,
                        Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = type } },
                        MetadataProps = { new StringStringEntryProto { Key = AddedKey, Value = "type" } },
                    });
                }
            }
        }
    }

    private static bool UsesCustomOps(FunctionProto function) => HasCustomOp(function.Node);

    private static bool HasCustomOp(IEnumerable<NodeProto> nodes) => nodes.Any(node =>
        node.Domain == BatchInvariantProvider.CustomOpDomain
        || node.Attribute.Any(attribute => (attribute.G is not null && HasCustomOp(attribute.G.Node)) || attribute.Graphs.Any(graph => HasCustomOp(graph.Node))));

    private static void Import(ICollection<OperatorSetIdProto> imports)
    {
        if (imports.All(import => import.Domain != BatchInvariantProvider.CustomOpDomain))
        {
            imports.Add(new OperatorSetIdProto { Domain = BatchInvariantProvider.CustomOpDomain, Version = 1 });
        }
    }

    private static void RemoveImport(ICollection<OperatorSetIdProto> imports)
    {
        if (imports.FirstOrDefault(import => import.Domain == BatchInvariantProvider.CustomOpDomain) is { } ours)
        {
            imports.Remove(ours);
        }
    }
}
