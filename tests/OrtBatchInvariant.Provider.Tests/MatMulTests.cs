using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Models.Onnx;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>MatMul, FusedMatMul and Gemm.</summary>
public sealed class MatMulTests(ITestOutputHelper output)
{
    private const int K = 97;
    private const int N = 67;

    private static readonly Dictionary<string, OpCase> s_cases = new()
    {
        ["MatMul-13, constant right side"] = MatMul(Rows("a", [1, K]), Weight("b", K, N)),
        ["MatMul-13, computed right side"] = MatMul(Rows("a", [1, K]), Shared("b", K, N)),
        ["MatMul-9"] = MatMul(Rows("a", [1, K]), Weight("b", K, N)) with { Opset = 9 },
        ["MatMul, rank 3 times 2"] = MatMul(Rows("a", [1, 3, K]), Weight("b", K, N)),
        ["MatMul, rank 3 times 3, shared right side"] = MatMul(Rows("a", [1, 3, K]), Weight("b", 1, K, N)),
        ["MatMul, rank 4 times 4, a right side a row"] = MatMul(Rows("a", [1, 2, 3, K]), Rows("b", [1, 2, K, N])),
        ["MatMul, rank 2 times 3"] = MatMul(Rows("a", [1, K]), Weight("b", 2, K, N)) with { Outputs = [new("y", 1)] },
        ["MatMul, broadcast of both sides"] = MatMul(Rows("a", [1, 1, 3, K]), Weight("b", 2, K, N)),
        ["MatMul, matrix times vector"] = MatMul(Rows("a", [1, K]), Weight("b", K)),
        ["MatMul, vector times matrix"] = MatMul(Shared("a", K), Rows("b", [1, K, N])),
        ["MatMul, vector times vector"] = MatMul(Positive("a", K), Positive("b", K)) with { Outputs = [new("y", -1)] },
        ["MatMul, one column"] = MatMul(Rows("a", [1, K]), Weight("b", K, 1)),
        ["MatMul, inner dimension 0"] = MatMul(Rows("a", [1, 0]), Weight("b", 0, N)),
        ["FusedMatMul, alpha"] = Fused(Rows("a", [1, 3, K]), Weight("b", K, N), ("alpha", 0.37f)),
        ["FusedMatMul, transA"] = Fused(Rows("a", [K, 1], axis: 1), Weight("b", K, N), ("transA", 1), ("alpha", 2f)),
        ["FusedMatMul, transB"] = Fused(Rows("a", [1, K]), Weight("b", N, K), ("transB", 1)),
        ["FusedMatMul, transB, computed right side"] = Fused(Rows("a", [2, 1, K], axis: 1), Shared("b", 2, N, K), ("transB", 1)) with { Outputs = [new("y", 1)] },
        ["FusedMatMul, transA and transB, rank 3"] = Fused(Rows("a", [1, K, 3]), Rows("b", [1, N, K]), ("transA", 1), ("transB", 1)),
        ["FusedMatMul, transBatchA"] = Fused(Rows("a", [1, 2, K]), Weight("b", 2, K, N), ("transBatchA", 1)) with { Outputs = [new("y", 1)] },
        ["FusedMatMul, transBatchA and transA"] =
            Fused(Rows("a", [K, 2, 1], axis: 2), Weight("b", 2, K, N), ("transBatchA", 1), ("transA", 1)) with { Outputs = [new("y", 1)] },
        ["FusedMatMul, transBatchB"] = Fused(Rows("a", [1, 3, K]), Rows("b", [K, 1, N], axis: 1), ("transBatchB", 1), ("alpha", 0.5f)),
        ["FusedMatMul, transBatchA, transBatchB and transB"] =
            Fused(Rows("a", [3, 1, K], axis: 1), Rows("b", [N, 1, K], axis: 1), ("transBatchA", 1), ("transBatchB", 1), ("transB", 1)),
        ["Gemm-13"] = Gemm(Rows("a", [1, K]), Weight("b", K, N), null),
        ["Gemm-7"] = Gemm(Rows("a", [1, K]), Weight("b", K, N), Weight("c", N)) with { Opset = 7 },
        ["Gemm-11, C left out"] = Gemm(Rows("a", [1, K]), Weight("b", K, N), null) with { Opset = 11 },
        ["Gemm, bias, alpha and beta"] = Gemm(Rows("a", [1, K]), Weight("b", K, N), Weight("c", N), ("alpha", 0.5f), ("beta", -1.7f)),
        ["Gemm, transB, scalar C"] = Gemm(Rows("a", [1, K]), Weight("b", N, K), Weight("c"), ("transB", 1)),
        ["Gemm, transA, C a column"] = Gemm(Rows("a", [K, 1], axis: 1), Shared("b", K, N), Rows("c", [1, 1]), ("transA", 1)),
        ["Gemm, computed C a matrix"] = Gemm(Rows("a", [1, K]), Weight("b", K, N), Rows("c", [1, N]), ("beta", 0.3f)),
        ["Gemm, inner dimension 0"] = Gemm(Rows("a", [1, 0]), Weight("b", 0, N), Weight("c", N), ("beta", 0.5f)) with
        {
            // Here the stock kernel forgets beta.
            StockForm = Gemm(Rows("a", [1, 0]), Weight("b", 0, N), Weight("c", N)),
            ToStockForm = inputs => [.. inputs[..2], Tensor.Of([N], [.. inputs[2].As<float>().ToArray().Select(value => value / 2)])],
        },
        ["Gemm, C a row"] = Gemm(Rows("a", [1, K]), Weight("b", K, N), Shared("c", 1, N)),
    };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Op(string name) => Checks.All(s_cases[name], output);

    /// <summary>ONNX Runtime rewrites MatMul + Add before it asks providers; the report names what was made of them.</summary>
    [Theory]
    [InlineData(GraphOptimizationLevel.ORT_DISABLE_ALL, "MatMul")]
    [InlineData(GraphOptimizationLevel.ORT_ENABLE_BASIC, "Gemm")]
    [InlineData(GraphOptimizationLevel.ORT_ENABLE_ALL, "Gemm")]
    public void MatMulAndAddSurviveTheRewriteToGemm(GraphOptimizationLevel level, string servedOp)
    {
        Random random = Checks.Seeded(output);
        Tensor a = Tensor.Floats(random, 1, 5, K);
        var graph = new GraphProto { Name = "linear" };
        graph.Node.Add(Graphs.Node("product", "MatMul", "", ["a", "b"], ["product"]));
        graph.Node.Add(Graphs.Node("sum", "Add", "", ["product", "bias"], ["y"]));
        graph.Initializer.Add(Graphs.Initializer("b", Tensor.Floats(random, 1, K, N)));
        graph.Initializer.Add(Graphs.Initializer("bias", Tensor.Floats(random, 1, N)));
        graph.Input.Add(Graphs.Value("a", a, axis => axis == 0));
        graph.Output.Add(Graphs.Value("y", a.Type));
        byte[] model = Graphs.Model(graph, 21);

        using InferenceSession ours = Sessions.Ours(model, out CoverageReport report, configure: options => options.GraphOptimizationLevel = level);
        CoverageNode product = Assert.Single(report.Nodes, node => node.ServedBy == ServedBy.BatchInvariant);
        Assert.Equal((servedOp, "gemm.f32.v1"), (product.Op, product.Contract));
        Assert.Contains("product", product.Name, StringComparison.Ordinal);
        using InferenceSession stock = Sessions.Stock(model);
        Tensor[] actual = Sessions.Run(ours, [("a", a)], ["y"]);
        Checks.Close(Checks.Run(stock, [("a", a)], ["y"]), actual, MatMul(), output);
        Tensor[] alone = Sessions.Run(ours, [("a", a.Slice(0, 0, 1))], ["y"]);
        Checks.Same(alone, [actual[0].Slice(0, 0, 1)]).ExpectNone(output, "row alone against the row in a batch of 5");
    }

    [Theory]
    [InlineData("MatMul-13, constant right side")]
    [InlineData("FusedMatMul, transB")]
    [InlineData("Gemm, bias, alpha and beta")]
    public void WithoutPrepackingTheBytesAreTheSame(string name) => SessionTests.SameBytesWithoutPrepacking(s_cases[name], output);

    internal static OpCase MatMul(params Operand?[] inputs) => new("MatMul", "gemm.f32.v1", inputs);

    internal static OpCase Fused(Operand a, Operand b, params (string, object)[] attributes) =>
        new("FusedMatMul", "gemm.f32.v1", a, b) { Domain = "com.microsoft", Attributes = attributes };

    internal static OpCase Gemm(Operand a, Operand b, Operand? c, params (string, object)[] attributes) =>
        new("Gemm", "gemm.f32.v1", a, b, c) { Attributes = attributes };
}
