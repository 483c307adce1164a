namespace OrtBatchInvariant.Models.Onnx;

/// <summary>Refuses graphs that no runtime could run, before one is asked to.</summary>
public static class GraphCheck
{
    // Functions that call functions can stand for far more nodes than a file holds.
    private const long MostNodes = 10_000_000;
    private const int MostNestedCalls = 100;

    /// <summary>
    /// Checks that every node's domain is imported, that values have one producer and nodes read what is produced, that no
    /// graph has a cycle, and that functions call neither themselves nor an absurd number of others.
    /// </summary>
    /// <exception cref="ModelException">The first fault found, with the name of the node or value.</exception>
    public static void Check(OnnxModel model)
    {
        var path = model.Path ?? "model";
        var functions = new Dictionary<(string, string, string), FunctionProto>();
        foreach (var function in model.Proto.Functions)
        {
            if (!functions.TryAdd((Domain(function.Domain), function.Name, function.Overload), function))
            {
                throw new ModelException($"{path}: the function '{function.Name}' is defined twice.");
            }
        }

        var domains = Domains(path, model.Proto.OpsetImport);
        CheckGraph(path, model.Proto.Graph, domains, []);
        foreach (var function in model.Proto.Functions)
        {
            var where = $"{path}: function '{function.Name}'";
            var own = Domains(where, function.OpsetImport);
            var names = new HashSet<string>(function.Input, StringComparer.Ordinal);
            CheckNodes(where, function.Node, own, names, function.Output);
        }

        CheckCalls(path, model.Proto, functions);
    }

    private static HashSet<string> Domains(string path, IEnumerable<OperatorSetIdProto> imports)
    {
        var domains = new HashSet<string>(StringComparer.Ordinal);
        foreach (var import in imports)
        {
            if (import.Version < 1 || import.Version > int.MaxValue)
            {
                throw new ModelException($"{path}: imports version {import.Version} of the operators of '{import.Domain}', which cannot be.");
            }

            if (!domains.Add(Domain(import.Domain)))
            {
                throw new ModelException($"{path}: imports the operators of '{import.Domain}' twice.");
            }
        }

        return domains;
    }

    private static void CheckGraph(string path, GraphProto graph, HashSet<string> domains, HashSet<string> outer)
    {
        var names = new HashSet<string>(outer, StringComparer.Ordinal);
        var inputs = new HashSet<string>(StringComparer.Ordinal);
        foreach (var input in graph.Input)
        {
            if (!inputs.Add(input.Name))
            {
                throw new ModelException($"{path}: two inputs are named '{input.Name}'.");
            }

            names.Add(input.Name);
        }

        var initializers = new HashSet<string>(StringComparer.Ordinal);
        foreach (var name in graph.Initializer.Select(tensor => tensor.Name)
            .Concat(graph.SparseInitializer.Select(tensor => tensor.Values?.Name ?? string.Empty)))
        {
            // An initializer may give an input its default, nothing else.
            if (!initializers.Add(name))
            {
                throw new ModelException($"{path}: two initializers are named '{name}'.");
            }

            names.Add(name);
        }

        CheckNodes(path, graph.Node, domains, names, graph.Output.Select(output => output.Name), outer);
    }

    private static void CheckNodes(
        string path,
        IReadOnlyList<NodeProto> nodes,
        HashSet<string> domains,
        HashSet<string> names,
        IEnumerable<string> outputs,
        HashSet<string>? outer = null)
    {
        var producer = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var i = 0; i < nodes.Count; i++)
        {
            if (!domains.Contains(Domain(nodes[i].Domain)))
            {
                throw new ModelException($"{path}: node {Text(nodes[i], i)} is of the domain '{nodes[i].Domain}', which the model does not import.");
            }

            foreach (var output in nodes[i].Output.Where(output => output.Length > 0))
            {
                var isOuter = outer is not null && outer.Contains(output);
                if (!producer.TryAdd(output, i) || (names.Contains(output) && !isOuter))
                {
                    throw new ModelException($"{path}: node {Text(nodes[i], i)} makes the value '{output}', which something else makes already.");
                }
            }
        }

        names.UnionWith(producer.Keys);
        var waits = new int[nodes.Count];
        var readers = new List<int>[nodes.Count];
        for (var i = 0; i < nodes.Count; i++)
        {
            var needed = new HashSet<int>();
            foreach (var input in nodes[i].Input.Concat(FreeNames(nodes[i])).Where(input => input.Length > 0))
            {
                if (producer.TryGetValue(input, out var before))
                {
                    needed.Add(before);
                }
                else if (!names.Contains(input))
                {
                    throw new ModelException($"{path}: node {Text(nodes[i], i)} reads the value '{input}', which nothing makes.");
                }
            }

            waits[i] = needed.Count;
            foreach (var before in needed)
            {
                (readers[before] ??= []).Add(i);
            }
        }

        var ready = new Queue<int>(Enumerable.Range(0, nodes.Count).Where(i => waits[i] == 0));
        var done = 0;
        while (ready.TryDequeue(out var node))
        {
            done++;
            foreach (var reader in readers[node] ?? [])
            {
                if (--waits[reader] == 0)
                {
                    ready.Enqueue(reader);
                }
            }
        }

        if (done < nodes.Count)
        {
            var first = Array.FindIndex(waits, wait => wait > 0);
            throw new ModelException($"{path}: node {Text(nodes[first], first)} is part of a cycle, or waits for one.");
        }

        foreach (var output in outputs.Where(output => output.Length > 0 && !names.Contains(output)))
        {
            throw new ModelException($"{path}: the output '{output}' is made by nothing.");
        }

        foreach (var node in nodes)
        {
            foreach (var (attribute, subgraph) in GraphWalk.Subgraphs(node))
            {
                CheckGraph($"{path}: {node.Name}.{attribute}", subgraph, domains, names);
            }
        }
    }

    /// <summary>What the subgraphs of a node may take from the graph around it: every name they read and do not make.</summary>
    private static IEnumerable<string> FreeNames(NodeProto node)
    {
        foreach (var (_, graph) in GraphWalk.Subgraphs(node))
        {
            var made = new HashSet<string>(
                graph.Input.Select(input => input.Name)
                    .Concat(graph.Initializer.Select(tensor => tensor.Name))
                    .Concat(graph.SparseInitializer.Select(tensor => tensor.Values?.Name ?? string.Empty))
                    .Concat(graph.Node.SelectMany(inner => inner.Output)),
                StringComparer.Ordinal);
            foreach (var name in graph.Node.SelectMany(inner => inner.Input.Concat(FreeNames(inner)))
                .Concat(graph.Output.Select(output => output.Name)))
            {
                if (!made.Contains(name))
                {
                    yield return name;
                }
            }
        }
    }

    private static void CheckCalls(string path, ModelProto model, Dictionary<(string, string, string), FunctionProto> functions)
    {
        var sizes = new Dictionary<FunctionProto, long>(ReferenceEqualityComparer.Instance);
        var open = new HashSet<FunctionProto>(ReferenceEqualityComparer.Instance);
        if (Size(model.Graph.Node) > MostNodes)
        {
            throw new ModelException($"{path}: its functions stand for more than {MostNodes} nodes.");
        }

        long Size(IEnumerable<NodeProto> nodes)
        {
            long total = 0;
            foreach (var node in nodes)
            {
                total += functions.TryGetValue((Domain(node.Domain), node.OpType, node.Overload), out var function) ? SizeOf(function) : 1;
                total += GraphWalk.Subgraphs(node).Sum(subgraph => Size(subgraph.Graph.Node));
                total = Math.Min(total, MostNodes + 1);
            }

            return total;
        }

        long SizeOf(FunctionProto function)
        {
            if (sizes.TryGetValue(function, out var known))
            {
                return known;
            }

            if (!open.Add(function))
            {
                throw new ModelException($"{path}: the function '{function.Name}' calls itself.");
            }

            if (open.Count > MostNestedCalls)
            {
                throw new ModelException($"{path}: functions call each other more than {MostNestedCalls} deep.");
            }

            var size = Size(function.Node);
            open.Remove(function);
            return sizes[function] = size;
        }
    }

    private static string Domain(string domain) => domain == "ai.onnx" ? string.Empty : domain;

    private static string Text(NodeProto node, int index) => $"'{(node.Name.Length > 0 ? node.Name : $"{node.OpType}_{index}")}' ({node.OpType})";
}
