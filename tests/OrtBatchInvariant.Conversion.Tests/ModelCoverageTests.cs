using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Conversion.Tests.Support;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;
using static OrtBatchInvariant.Conversion.Tests.Support.Graphs;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Conversion.Tests;

public sealed class ModelCoverageTests(ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _temporary = new();

    [Fact]
    public void NodesOfSubgraphsAndFunctionsAreLedBackToTheFile()
    {
        ModelCoverage coverage = ModelCoverage.Of(new OnnxModel(Samples.WithSubgraphsAndFunctions(elseOp: "Softplus")));
        Assert.Equal(
            [
                "|first:BatchInvariant", "|choose:StockInvariant", "choose.then_branch|inner:BatchInvariant",
                "choose.else_branch|other:StockVarying", "|call1:StockInvariant", "|call2:StockInvariant",
                "function test.local:Block|product:BatchInvariant", "function test.local:Block|Tanh_1:BatchInvariant",
                "function test.local:Block|sum:StockInvariant",
            ],
            coverage.Nodes.Select(node => $"{node.Node?.Graph}|{node.Coverage.Name}:{node.Coverage.ServedBy}"));
        Assert.Equal("other", Assert.Single(coverage.VaryingNodes).Coverage.Name);
    }

    [Fact]
    public void MainGraphOfCallsAlone()
    {
        ModelProto model = Samples.WithSubgraphsAndFunctions();
        NodeProto call = model.Graph.Node[^1];
        model.Graph.Node.Clear();
        model.Graph.Node.Add(call);
        call.Input[0] = "x";
        ModelCoverage coverage = ModelCoverage.Of(new OnnxModel(model));
        Assert.Empty(coverage.VaryingNodes);
        Assert.Equal(2, coverage.Nodes.Count(node => node.Coverage.ServedBy == ServedBy.BatchInvariant));
    }

    /// <summary>One instance of a function may be served and another not; then the node varies.</summary>
    [Fact]
    public void FunctionThatIsServedForOneTypeOnlyVaries()
    {
        ModelProto model = Samples.WithSubgraphsAndFunctions();
        model.Graph.Input.Add(Value("d", DataType.Double, "rows", Samples.Width));
        model.Graph.Input.Add(Value("w", DataType.Double, Samples.Width, Samples.Width));
        model.Graph.Output.Add(Value("z", DataType.Double, "rows", Samples.Width));
        model.Graph.Node.Add(Node("double_call", "test.local:Block", ["d", "w"], ["z"]));
        ModelCoverage coverage = ModelCoverage.Of(new OnnxModel(model));
        Assert.Equal(["product", "Tanh_1"], coverage.VaryingNodes.Select(node => node.Coverage.Name));
    }

    [Theory]
    [InlineData("Softmax", true)]
    [InlineData("Softplus", false)]
    public void SessionDoesWhatTheFileSays(string elseOp, bool strict)
    {
        var model = new OnnxModel(Samples.WithSubgraphsAndFunctions(elseOp));
        string file = Path.Combine(_temporary.Path, "model.onnx");
        model.Save(file);
        using var options = new SessionOptions();
        options.AppendBatchInvariant(new BatchInvariantOptions { Strict = strict });
        using var session = new InferenceSession(file, options);
        CoverageReport report = CoverageReport.ForSession(options);
        output.WriteLine(string.Join('\n', report.Nodes));
        ModelCoverage coverage = ModelCoverage.Of(model);
        Assert.Empty(coverage.Compare(report));
        Assert.NotEqual(0, report.Nodes.Count(node => node.HasKernel));

        // The comparison does notice: a node that lost its kernel, one that got an unplanned one, and one that varies all of a sudden.
        Assert.Single(coverage.Compare(Change(report, node => node.HasKernel ? node with { HasKernel = false } : null)));
        Assert.Single(coverage.Compare(Change(report, node => node is { Op: "Add" } ? node with { HasKernel = true } : null)));
        Assert.Single(coverage.Compare(Change(report, node => node is { Op: "Add" } ? node with { ServedBy = ServedBy.StockVarying } : null)));
    }

    /// <summary>The library tells ONNX Runtime the shapes behind its ops, also where the file does not state them.</summary>
    [Fact]
    public void ShapesAreInferredThroughCustomOps()
    {
        ModelProto proto = Model(Graph(
            "main",
            [Value("x", DataType.Float, "batch", "tokens", 16), Value("s", DataType.Float, 1, 8)],
            [Value("y", DataType.Float, null)],
            Node("product", "MatMul", ["x", "w"], ["p"]),
            Node("softmax", "Softmax", ["p"], ["q"], ("axis", -1)),
            Node("power", "Pow", ["q", "s"], ["r"]),
            Node("tanh", "Tanh", ["r"], ["y"])));
        proto.Graph.Initializer.Add(RandomFloats("w", new Random(4), 16, 8));
        var model = new OnnxModel(proto);
        Assert.Equal(4, GraphRewriter.Convert(model, ModelCoverage.Of(model)));
        proto.Graph.ValueInfo.Clear();
        ModelCoverage coverage = ModelCoverage.Of(model);
        Assert.All((string[])["p", "q", "r", "y"], name => Assert.Equal(["batch", "tokens", "8"], coverage.Tensors[name].Shape));

        // Where a shape is not known nothing is said of it.
        proto.Graph.Input[0].Type.TensorType.Shape = null;
        Assert.All((string[])["p", "q", "r", "y"], name => Assert.Empty(ModelCoverage.Of(model).Tensors[name].Shape));
    }

    /// <summary>An operator that ONNX Runtime has no kernel for is taken apart; what varies in it is not lost.</summary>
    [Fact]
    public void PartsOfAnOperatorAreListed()
    {
        ModelProto model = Model(Graph(
            "main",
            [Value("x", DataType.Float, "rows", 8)],
            [Value("y", DataType.Float, "rows", 8)],
            Node("relu", "Relu", ["x"], ["r"]),
            Node("mish", "Mish", ["r"], ["y"])));
        ModelCoverage coverage = ModelCoverage.Of(new OnnxModel(model));
        output.WriteLine(string.Join('\n', coverage.Nodes));
        Assert.NotEmpty(coverage.VaryingNodes);
    }

    public void Dispose() => _temporary.Dispose();

    private static CoverageReport Change(CoverageReport report, Func<CoverageNode, CoverageNode?> change)
    {
        bool done = false;
        var nodes = new List<CoverageNode>();
        foreach (CoverageNode node in report.Nodes)
        {
            CoverageNode? changed = done ? null : change(node);
            done |= changed is not null;
            nodes.Add(changed ?? node);
        }

        Assert.True(done);
        string json = System.Text.Json.JsonSerializer.Serialize(
            new { report.Provider, report.Device, report.InstructionSet, Nodes = nodes },
            new System.Text.Json.JsonSerializerOptions { PropertyNamingPolicy = System.Text.Json.JsonNamingPolicy.CamelCase });
        return CoverageReport.Parse(json);
    }
}
