using System.Globalization;
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

            StateTypes(model.Proto, coverage);
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

    /// <summary>
    /// ONNX infers no shape through a custom op, and no type through one inside a function, so that what was inferred of the original is
    /// stated: a later reduction over axes counted from the front needs to know the rank.
    /// </summary>
    private static void StateTypes(ModelProto model, ModelCoverage coverage)
    {
        HashSet<(string, string)> functions = [.. model.Functions.Where(UsesCustomOps).Select(function => (function.Domain, function.Name))];
        foreach (GraphProto graph in GraphWalk.Graphs(model))
        {
            HashSet<string> stated = [.. graph.ValueInfo.Concat(graph.Output).Select(value => value.Name)];
            foreach (NodeProto node in graph.Node)
            {
                bool isCall = functions.Contains((node.Domain, node.OpType));
                if (!isCall && node.Domain != BatchInvariantProvider.CustomOpDomain)
                {
                    continue;
                }

                foreach (string name in node.Output)
                {
                    if (coverage.Tensors.TryGetValue(name, out CoverageOutput? tensor) && (isCall || tensor.Shape.Count > 0) && stated.Add(name))
                    {
                        graph.ValueInfo.Add(Describe(tensor));
                    }
                }
            }
        }
    }

    private static ValueInfoProto Describe(CoverageOutput tensor)
    {
        var type = new TypeProto.Types.Tensor { ElemType = tensor.ElementType };
        if (tensor.Shape.Count > 0)
        {
            type.Shape = new TensorShapeProto();
            type.Shape.Dim.AddRange(tensor.Shape.Select(dimension =>
                long.TryParse(dimension, NumberStyles.None, CultureInfo.InvariantCulture, out long size) ? new TensorShapeProto.Types.Dimension { DimValue = size }
                : dimension.Length > 0 ? new() { DimParam = dimension }
                : new()));
        }

        return new ValueInfoProto
        {
            Name = tensor.Name,
            Type = new TypeProto { TensorType = type },
            MetadataProps = { new StringStringEntryProto { Key = AddedKey, Value = "type" } },
        };
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
