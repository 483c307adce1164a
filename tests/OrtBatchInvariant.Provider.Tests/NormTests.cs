using Microsoft.ML.OnnxRuntime;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>The norms over the last axes, and those that add a residual first.</summary>
public sealed class NormTests(ITestOutputHelper output)
{
    private const int Width = 131;

    private static readonly Dictionary<string, OpCase> s_cases = new()
    {
        ["SimplifiedLayerNormalization"] = Norm("SimplifiedLayerNormalization", 1, Rows("x", [1, Width]), Weight("scale", Width), null),
        ["SimplifiedLayerNormalization, rank 3, epsilon, both outputs"] =
            Norm("SimplifiedLayerNormalization", 2, Rows("x", [1, 3, Width]), Weight("scale", Width), null, ("epsilon", 1e-3f), ("axis", 2)),
        ["SimplifiedLayerNormalization, axis 1 of 3"] = Norm("SimplifiedLayerNormalization", 1, Rows("x", [1, 3, 40]), Weight("scale", 3, 40), null, ("axis", 1)),
        ["RMSNormalization-23"] = Norm("RMSNormalization", 1, Rows("x", [1, 3, Width]), Weight("scale", Width), null, ("epsilon", 1e-6f)) with { Opset = 23 },
        ["RMSNormalization-23, axis -2"] =
            Norm("RMSNormalization", 1, Rows("x", [1, 3, 40]), Weight("scale", 3, 40), null, ("axis", -2)) with { Opset = 23 },
        ["LayerNormalization-1"] = Norm("LayerNormalization", 3, Rows("x", [1, Width]), Weight("scale", Width), Weight("bias", Width)) with { Opset = 16 },
        ["LayerNormalization-17"] = Norm("LayerNormalization", 1, Rows("x", [1, 2, Width]), Weight("scale", Width), Weight("bias", Width), ("epsilon", 1e-4f)),
        ["LayerNormalization-17, no bias"] = Norm("LayerNormalization", 1, Rows("x", [1, Width]), Weight("scale", Width), null),
        ["LayerNormalization-17, all outputs, axis 1 of 3"] =
            Norm("LayerNormalization", 3, Rows("x", [1, 3, 40]), Weight("scale", 3, 40), Weight("bias", 3, 40), ("axis", 1)),
        ["SkipSimplifiedLayerNormalization"] =
            Skip("SkipSimplifiedLayerNormalization", ["y"], Rows("x", [1, Width]), Rows("skip", [1, Width]), Weight("gamma", Width)),
        ["SkipSimplifiedLayerNormalization, sum"] = Skip(
            "SkipSimplifiedLayerNormalization", ["y", "", "", "sum"], Rows("x", [1, 3, Width]), Rows("skip", [1, 3, Width]), Weight("gamma", Width)),
        ["SkipSimplifiedLayerNormalization, bias and sum"] = Skip(
            "SkipSimplifiedLayerNormalization", ["y", "", "", "sum"], Rows("x", [1, 3, Width]), Rows("skip", [1, 3, Width]), Weight("gamma", Width), Weight("bias", Width)),
        ["SkipLayerNormalization"] = Skip(
            "SkipLayerNormalization", ["y"], Rows("x", [1, 3, Width]), Rows("skip", [1, 3, Width]), Weight("gamma", Width), Weight("beta", Width)),
        ["SkipLayerNormalization, bias and sum"] = Skip(
            "SkipLayerNormalization", ["y", "", "", "sum"], Rows("x", [1, 3, Width]), Rows("skip", [1, 3, Width]), Weight("gamma", Width), Weight("beta", Width), Weight("bias", Width)),
        ["SkipLayerNormalization, no beta"] =
            Skip("SkipLayerNormalization", ["y"], Rows("x", [1, Width]), Rows("skip", [1, Width]), Weight("gamma", Width), null, Weight("bias", Width)),
        ["SkipLayerNormalization, skip of one row"] = Skip(
            "SkipLayerNormalization", ["y", "", "", "sum"], Rows("x", [1, 3, Width]), Weight("skip", 1, 3, Width), Weight("gamma", Width), Weight("beta", Width)),
        ["SkipLayerNormalization, skip of rank 2"] = Skip(
            "SkipLayerNormalization", ["y"], Rows("x", [1, 3, Width]), Shared("skip", 3, Width), Weight("gamma", Width), Weight("beta", Width)),
    };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Op(string name) => Checks.All(s_cases[name], output);

    /// <summary>The stock CPU kernels leave <c>mean</c> and <c>inv_std_var</c> of the Skip forms out; the provider gives what the plain norms give.</summary>
    [Theory]
    [InlineData("SkipSimplifiedLayerNormalization")]
    [InlineData("SkipLayerNormalization")]
    public void StatisticsOfTheSkipForms(string name)
    {
        bool isLayer = name == "SkipLayerNormalization";
        Operand[] inputs = [Rows("x", [1, 3, Width]), Rows("skip", [1, 3, Width]), Weight("gamma", Width)];
        OpCase stock = Skip(name, ["y"], inputs) with { Attributes = [("epsilon", 1e-5f)] };
        OpCase op = Skip(name, ["y", isLayer ? "mean" : "", "inv", "sum"], inputs) with { Attributes = stock.Attributes, StockForm = stock, StockOutputs = 1 };
        Checks.All(op, output);
        Random random = Checks.Seeded(output);
        Tensor[] values = op.Values(random, 4);
        using InferenceSession session = Sessions.Ours(op.Model(values));
        Tensor[] results = Sessions.Run(session, op.Feeds(values), op.OutputNames);
        OpCase plain = Norm(isLayer ? "LayerNormalization" : "SimplifiedLayerNormalization", isLayer ? 3 : 2, Rows("x", [1, 3, Width]), Weight("scale", Width), null);
        using InferenceSession plainSession = Sessions.Ours(plain.Model([results[^1], values[2]]));
        Tensor[] expected = Sessions.Run(plainSession, [("x", results[^1])], plain.OutputNames);
        Checks.Same(expected, results[..^1]).ExpectNone(output, "against the plain norm of the sum");
    }

    internal static OpCase Norm(string op, int outputs, Operand x, Operand scale, Operand? bias, params (string, object)[] attributes) =>
        new(op, "norm.f32.v1", x, scale, bias) { Attributes = attributes, Outputs = [.. Enumerable.Range(0, outputs).Select(i => new Result($"y{i}"))] };

    internal static OpCase Skip(string op, string[] outputs, params Operand?[] inputs) => new(op, "norm.f32.v1", inputs)
    {
        Domain = "com.microsoft",
        Attributes = [("epsilon", 1e-6f)],
        Outputs = [.. outputs.Select(name => name == "" ? null : new Result(name))],
    };
}
