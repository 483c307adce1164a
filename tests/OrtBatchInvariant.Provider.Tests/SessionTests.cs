using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>What sessions have in common, whatever the op.</summary>
public sealed class SessionTests(ITestOutputHelper output)
{
    private const int Calls = 24;

    /// <summary>Two sessions with other thread counts, several callers at once, other batch sizes beside each other.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(4)]
    public async Task TwoSessionsAndManyThreadsGiveTheSameBytes(int accuracyLevel)
    {
        OpCase op = MatMulNBitsTests.Case(320, 200, 4, accuracyLevel, MatMulNBitsTests.Zeros.Packed, true, 32);
        Random random = Checks.Seeded(output);
        Tensor[] values = op.Values(random, 33);
        byte[] model = op.Model(values);
        using InferenceSession one = Sessions.Ours(model, out _, configure: options => options.IntraOpNumThreads = 1);
        using InferenceSession three = Sessions.Ours(model, out _, configure: options => options.IntraOpNumThreads = 3);
        Tensor[] expected = Checks.Run(one, op.Feeds(values), op.OutputNames);

        Comparison[] comparisons = await Task.WhenAll(Enumerable.Range(0, Calls).Select(call => Task.Run(() =>
        {
            int first = call % 16;
            int rows = 1 + (call % 17);
            Tensor[] part = [values[0].Slice(0, first, rows), .. values[1..]];
            Tensor[] actual = Sessions.Run(call % 2 == 0 ? one : three, op.Feeds(part), op.OutputNames);
            return Checks.Same([expected[0].Slice(0, first, rows)], actual);
        })));
        new Comparison(comparisons.Sum(each => each.Compared), comparisons.Sum(each => each.Different)).ExpectNone(output, $"{Calls} concurrent runs");
    }

    /// <summary>Two branches of an If, of which one is asked for at run time: their nodes are served and reported like all others, also
    /// where nodes of both have one name, or none.</summary>
    [Theory]
    [InlineData(true, null)]
    [InlineData(false, null)]
    [InlineData(true, "product")]
    [InlineData(false, "")]
    public void NodesInSubgraphsAreServed(bool condition, string? nodeName)
    {
        Random random = Checks.Seeded(output);
        Tensor x = Tensor.Floats(random, 1, 5, 40);
        Tensor[] weights = [Tensor.Floats(random, 1, 40, 30), Tensor.Floats(random, 1, 40, 30)];
        var graph = new GraphProto { Name = "branches" };
        NodeProto branch = Graphs.Node("branch", "If", "", ["condition"], ["y"]);
        for (int i = 0; i < 2; i++)
        {
            string name = i == 0 ? "then_branch" : "else_branch";
            var body = new GraphProto { Name = name };
            body.Node.Add(Graphs.Node(nodeName ?? $"{name}/product", "MatMul", "", ["x", $"w{i}"], [$"{name}/y"]));
            body.Output.Add(Graphs.Value($"{name}/y", x.Type));
            branch.Attribute.Add(OnnxAttribute.Of(name, body));
            graph.Initializer.Add(Graphs.Initializer($"w{i}", weights[i]));
        }

        graph.Node.Add(branch);
        Tensor asked = Tensor.Of([], condition);
        graph.Input.Add(Graphs.Value("x", x, axis => axis == 0));
        graph.Input.Add(Graphs.Value("condition", asked, _ => false));
        graph.Output.Add(Graphs.Value("y", x.Type));
        using InferenceSession branches = Sessions.Ours(Graphs.Model(graph, 21), out CoverageReport report);
        Assert.Equal(2, report.Nodes.Count(node => node.Op == "MatMul" && node.ServedBy == ServedBy.BatchInvariant));
        CoverageNode chooser = Assert.Single(report.Nodes, node => node.Op == "If");
        Assert.Equal(ServedBy.StockInvariant, chooser.ServedBy);
        Assert.Contains("one condition chooses the branch for the whole batch", chooser.Reason, StringComparison.Ordinal);

        OpCase plain = MatMulTests.MatMul(Operand.Rows("x", [1, 40]), Operand.Weight("w", 40, 30));
        using InferenceSession product = Sessions.Ours(plain.Model([x, weights[condition ? 0 : 1]]));
        Checks.Same(Sessions.Run(product, [("x", x)], ["y"]), Sessions.Run(branches, [("x", x), ("condition", asked)], ["y"]))
            .ExpectNone(output, "inside an If against outside");
    }

    /// <summary>One weight in two products and a Gather: packing it for one must not take it from the others.</summary>
    [Fact]
    public void WeightOfSeveralNodesServesThemAll()
    {
        Random random = Checks.Seeded(output);
        Tensor x = Tensor.Floats(random, 1, 5, 40);
        var graph = new GraphProto { Name = "tied" };
        graph.Node.Add(Graphs.Node("rows", "Gather", "", ["w", "indices"], ["rows"]));
        graph.Node.Add(Graphs.Node("first", "MatMul", "", ["x", "w"], ["first"]));
        graph.Node.Add(Graphs.Node("second", "Gemm", "", ["rows", "w"], ["second"], ("transB", 1)));
        graph.Initializer.Add(Graphs.Initializer("w", Tensor.Floats(random, 1, 40, 30)));
        graph.Initializer.Add(Graphs.Initializer("indices", Tensor.Of([3], 0L, 7, 39)));
        graph.Input.Add(Graphs.Value("x", x, axis => axis == 0));
        string[] outputs = ["first", "second"];
        graph.Output.AddRange(outputs.Select(name => Graphs.Value(name, x.Type)));
        byte[] model = Graphs.Model(graph, 21);
        using InferenceSession ours = Sessions.Ours(model, out _, configure: options => options.GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL);
        using InferenceSession parallel = Sessions.Ours(model, out _, configure: options =>
        {
            options.GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL;
            options.ExecutionMode = ExecutionMode.ORT_PARALLEL;
            options.InterOpNumThreads = 2;
        });
        using InferenceSession stock = Sessions.Stock(model);
        Tensor[] actual = Sessions.Run(ours, [("x", x)], outputs);
        Checks.Close(Checks.Run(stock, [("x", x)], outputs), actual, MatMulTests.MatMul(), output);
        Checks.Same(actual, Sessions.Run(parallel, [("x", x)], outputs)).ExpectNone(output, "nodes one by one against nodes side by side");
    }

    internal static void SameBytesWithoutPrepacking(OpCase op, ITestOutputHelper output)
    {
        Random random = Checks.Seeded(output);
        Tensor[] values = op.Values(random, 5);
        byte[] model = op.Model(values);
        using InferenceSession packed = Sessions.Ours(model);
        using InferenceSession plain = Sessions.Ours(model, out _, configure: options => options.AddSessionConfigEntry("session.disable_prepacking", "1"));
        Checks.Same(Sessions.Run(packed, op.Feeds(values), op.OutputNames), Sessions.Run(plain, op.Feeds(values), op.OutputNames))
            .ExpectNone(output, "session.disable_prepacking");
    }
}
