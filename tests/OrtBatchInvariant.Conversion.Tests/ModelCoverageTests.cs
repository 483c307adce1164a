using OrtBatchInvariant.Conversion.Tests.Support;
using OrtBatchInvariant.Models.Onnx;
using Xunit.Abstractions;
using static OrtBatchInvariant.Conversion.Tests.Support.Graphs;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Conversion.Tests;

public sealed class ModelCoverageTests(ITestOutputHelper output)
{
    [Fact]
    public void NodesOfSubgraphsAndFunctionsAreLedBackToTheFile()
    {
        ModelProto model = Samples.WithSubgraphsAndFunctions();
        ModelCoverage coverage = ModelCoverage.Of(new OnnxModel(model));
        foreach (NodeCoverage node in coverage.Nodes)
        {
            output.WriteLine($"{node.Node?.Graph} | {node.Coverage}");
        }

        Assert.Equal(
            [
                "|first:batch-invariant", "|choose:stock-invariant", "choose.then_branch|inner:batch-invariant",
                "choose.else_branch|conv:stock-varying", "|call1:stock-invariant", "|call2:stock-invariant", "function test.local:Block|product:batch-invariant",
            ],
            coverage.Nodes.Select(node => $"{node.Node?.Graph}|{node.Coverage.Name}:{node.Coverage.ServedBy}"));
    }
}
