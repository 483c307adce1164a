using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Models.Onnx;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>Groups of nodes that run as one kernel: the bytes of the nodes run one by one, and each node is reported.</summary>
public sealed class FusionTests(ITestOutputHelper output)
{
    private const int Width = 61;

    /// <summary>Operands of the products in any order, and rows, tails and neighbours of any number.</summary>
    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public void GatedProductHasTheBytesOfItsNodes(bool sigmoidFirst, bool upFirst)
    {
        Random random = Checks.Seeded(output);
        GraphProto graph = GatedGraph(sigmoidFirst, upFirst, Tensor.Floats(random, 1, Width, Width));
        byte[] model = Graphs.Model(graph, 21);
        using InferenceSession fused = Sessions.Ours(model, out CoverageReport report);
        using InferenceSession single = Unfused(model, out CoverageReport singleReport);
        Assert.Equal(5, report.Nodes.Count);
        Assert.All(report.Nodes, node => Assert.Equal(ServedBy.BatchInvariant, node.ServedBy));
        Assert.Equal(3, report.Nodes.Count(node => node.Contract == "elementwise.f32.v2"));
        Assert.Equal(2, singleReport.Nodes.Count(node => node is { Op: "Mul", ServedBy: ServedBy.StockInvariant }));

        Comparison total = new(0, 0);
        Tensor whole = Tensor.Floats(random, 30, 19, Width);
        Tensor[] expected = Sessions.Run(single, [("x", whole)], ["y"]);
        foreach ((int first, int rows) in ((int, int)[])[(0, 19), (0, 1), (18, 1), (3, 7)])
        {
            Comparison part = Checks.Same([expected[0].Slice(0, first, rows)], Sessions.Run(fused, [("x", whole.Slice(0, first, rows))], ["y"]));
            total = new(total.Compared + part.Compared, total.Different + part.Different);
        }

        total.ExpectNone(output, "one kernel against three");
    }

    /// <summary>What must stay as it is: values that others read, that leave the graph, and products that broadcast.</summary>
    [Theory]
    [InlineData("sigmoid is read twice")]
    [InlineData("activation is an output")]
    [InlineData("up is broadcast")]
    [InlineData("up is a scalar")]
    [InlineData("shapes are unknown")]
    public void IsLeftAlone(string why)
    {
        Random random = Checks.Seeded(output);
        GraphProto graph = GatedGraph(false, false, Tensor.Floats(random, 1, Width, Width));
        switch (why)
        {
            case "sigmoid is read twice":
                graph.Node.Add(Graphs.Node("second", "Neg", "", ["sigmoid"], ["second"]));
                graph.Output.Add(Graphs.Value("second", TensorElementTypeOf(graph)));
                break;
            case "activation is an output":
                graph.Output.Add(Graphs.Value("activated", TensorElementTypeOf(graph)));
                break;
            case "up is broadcast":
                graph.Initializer.Add(Graphs.Initializer("row", Tensor.Floats(random, 1, 1, Width)));
                graph.Node[^1].Input[1] = "row";
                break;
            case "up is a scalar":
                graph.Initializer.Add(Graphs.Initializer("row", Tensor.Floats(random, 1)));
                graph.Node[^1].Input[1] = "row";
                break;
            default:
                graph.Input.Add(Graphs.Value("free", TensorElementTypeOf(graph)));
                graph.Node[^1].Input[1] = "free";
                break;
        }

        byte[] model = Graphs.Model(graph, 21);
        using InferenceSession ours = Sessions.Ours(model, out CoverageReport report);
        Assert.Contains(report.Nodes, node => node is { Op: "Mul", ServedBy: ServedBy.StockInvariant });
        using InferenceSession single = Unfused(model, out _);
        Tensor x = Tensor.Floats(random, 3, 5, Width);
        List<(string, Tensor)> feeds = [("x", x)];
        if (why == "shapes are unknown")
        {
            feeds.Add(("free", Tensor.Floats(random, 1, 7, 1, Width)));
        }

        string[] outputs = [.. graph.Output.Select(value => value.Name)];
        Checks.Same(Sessions.Run(single, [.. feeds], outputs), Sessions.Run(ours, [.. feeds], outputs)).ExpectNone(output, why);
    }

    /// <summary>A function beside the group: partitioning looks at the graph again once it is inlined, and finds the group compiled.</summary>
    [Fact]
    public void StandsBesideAFunction()
    {
        Random random = Checks.Seeded(output);
        GraphProto graph = GatedGraph(false, false, Tensor.Floats(random, 1, Width, Width));
        graph.Node.Add(Graphs.Node("call", "Twice", "test.local", ["y"], ["z"]));
        graph.Output[0].Name = "z";
        ModelProto model = ModelProto.Parser.ParseFrom(Graphs.Model(graph, 21));
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "test.local", Version = 1 });
        var function = new FunctionProto { Name = "Twice", Domain = "test.local" };
        function.Input.Add("a");
        function.Output.Add("b");
        function.OpsetImport.Add(new OperatorSetIdProto { Version = 21 });
        function.Node.Add(Graphs.Node("sum", "Add", "", ["a", "a"], ["b"]));
        model.Functions.Add(function);
        byte[] bytes = Google.Protobuf.MessageExtensions.ToByteArray(model);
        foreach (GraphOptimizationLevel level in (GraphOptimizationLevel[])[GraphOptimizationLevel.ORT_DISABLE_ALL, GraphOptimizationLevel.ORT_ENABLE_ALL])
        {
            using InferenceSession fused = Sessions.Ours(bytes, out CoverageReport report, configure: options => options.GraphOptimizationLevel = level);
            using InferenceSession single = Unfused(bytes, out _);
            Assert.Equal(2, report.Nodes.Count(node => node is { Op: "Mul", ServedBy: ServedBy.BatchInvariant, HasKernel: true }));
            Tensor x = Tensor.Floats(random, 30, 5, Width);
            Checks.Same(Sessions.Run(single, [("x", x)], ["z"]), Sessions.Run(fused, [("x", x)], ["z"])).ExpectNone(output, $"beside a function, {level}");
        }
    }

    private static InferenceSession Unfused(byte[] model, out CoverageReport report) =>
        Sessions.Ours(model, out report, configure: options => options.AddSessionConfigEntry("ep.batchinvariantexecutionprovider.fuse", "0"));

    private static Microsoft.ML.OnnxRuntime.Tensors.TensorElementType TensorElementTypeOf(GraphProto graph) =>
        (Microsoft.ML.OnnxRuntime.Tensors.TensorElementType)graph.Output[0].Type.TensorType.ElemType;

    // y = silu(x a) * (x b), the products as MatMul.
    private static GraphProto GatedGraph(bool sigmoidFirst, bool upFirst, Tensor weight)
    {
        var graph = new GraphProto { Name = "gated" };
        graph.Node.Add(Graphs.Node("gate", "MatMul", "", ["x", "a"], ["gate"]));
        graph.Node.Add(Graphs.Node("up", "MatMul", "", ["x", "b"], ["up"]));
        graph.Node.Add(Graphs.Node("sigmoid", "Sigmoid", "", ["gate"], ["sigmoid"]));
        graph.Node.Add(Graphs.Node("activate", "Mul", "", sigmoidFirst ? ["sigmoid", "gate"] : ["gate", "sigmoid"], ["activated"]));
        graph.Node.Add(Graphs.Node("multiply", "Mul", "", upFirst ? ["up", "activated"] : ["activated", "up"], ["y"]));
        graph.Initializer.Add(Graphs.Initializer("a", weight));
        graph.Initializer.Add(Graphs.Initializer("b", weight with { Bytes = [.. weight.Bytes.Reverse().Chunk(4).SelectMany(word => word.Reverse())] }));
        graph.Input.Add(Graphs.Value("x", weight, axis => axis == 0));
        graph.Output.Add(Graphs.Value("y", weight.Type));
        return graph;
    }
}
