namespace OrtBatchInvariant.Models.Onnx;

/// <summary>Visits graphs, nodes and tensors wherever an ONNX model can hold them.</summary>
internal static class GraphWalk
{
    /// <summary>The graphs held by the attributes of a node (<c>If</c>, <c>Loop</c>, <c>Scan</c>, ...).</summary>
    public static IEnumerable<(string Attribute, GraphProto Graph)> Subgraphs(NodeProto node)
    {
        foreach (var attribute in node.Attribute)
        {
            if (attribute.G is not null)
            {
                yield return (attribute.Name, attribute.G);
            }

            for (var i = 0; i < attribute.Graphs.Count; i++)
            {
                yield return ($"{attribute.Name}[{i}]", attribute.Graphs[i]);
            }
        }
    }

    /// <summary>
    /// Every dense tensor of the model: initializers and tensor attributes, of the main graph, of subgraphs, of functions
    /// and of training graphs, and the parts of sparse tensors.
    /// </summary>
    public static IEnumerable<TensorProto> Tensors(ModelProto model)
    {
        var tensors = model.Graph is null ? [] : OfGraph(model.Graph);
        foreach (var function in model.Functions)
        {
            tensors = tensors.Concat(function.Node.SelectMany(OfNode));
            tensors = tensors.Concat(function.AttributeProto.SelectMany(OfAttribute));
        }

        foreach (var training in model.TrainingInfo)
        {
            tensors = training.Initialization is null ? tensors : tensors.Concat(OfGraph(training.Initialization));
            tensors = training.Algorithm is null ? tensors : tensors.Concat(OfGraph(training.Algorithm));
        }

        return tensors;
    }

    /// <summary>The dense initializers of the main graph and of subgraphs, wherever those are.</summary>
    public static IEnumerable<TensorProto> Initializers(ModelProto model) =>
        Graphs(model).SelectMany(graph => graph.Initializer);

    /// <summary>The main graph and every subgraph, of functions too.</summary>
    public static IEnumerable<GraphProto> Graphs(ModelProto model) =>
        (model.Graph is null ? [] : AndBelow(model.Graph)).Concat(model.Functions.SelectMany(function => Below(function.Node)));

    private static IEnumerable<GraphProto> AndBelow(GraphProto graph) => Below(graph.Node).Prepend(graph);

    private static IEnumerable<GraphProto> Below(IEnumerable<NodeProto> nodes) =>
        nodes.SelectMany(Subgraphs).SelectMany(subgraph => AndBelow(subgraph.Graph));

    private static IEnumerable<TensorProto> OfGraph(GraphProto graph) =>
        graph.Initializer
            .Concat(graph.SparseInitializer.SelectMany(OfSparse))
            .Concat(graph.Node.SelectMany(OfNode));

    private static IEnumerable<TensorProto> OfNode(NodeProto node) => node.Attribute.SelectMany(OfAttribute);

    private static IEnumerable<TensorProto> OfAttribute(AttributeProto attribute)
    {
        var tensors = attribute.T is null ? attribute.Tensors.AsEnumerable() : attribute.Tensors.Prepend(attribute.T);
        if (attribute.SparseTensor is not null)
        {
            tensors = tensors.Concat(OfSparse(attribute.SparseTensor));
        }

        tensors = tensors.Concat(attribute.SparseTensors.SelectMany(OfSparse));
        if (attribute.G is not null)
        {
            tensors = tensors.Concat(OfGraph(attribute.G));
        }

        return tensors.Concat(attribute.Graphs.SelectMany(OfGraph));
    }

    private static IEnumerable<TensorProto> OfSparse(SparseTensorProto sparse)
    {
        if (sparse.Values is not null)
        {
            yield return sparse.Values;
        }

        if (sparse.Indices is not null)
        {
            yield return sparse.Indices;
        }
    }
}
