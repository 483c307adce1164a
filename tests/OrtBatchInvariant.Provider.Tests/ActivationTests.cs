using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>Activations, element by element. The width leaves a tail after any vector length.</summary>
public sealed class ActivationTests(ITestOutputHelper output)
{
    private const int Width = 61;

    private static readonly Dictionary<string, OpCase> s_cases = new()
    {
        ["Sigmoid-6"] = Case("Sigmoid", "") with { Opset = 6 },
        ["Sigmoid-13"] = Case("Sigmoid", ""),
        ["Tanh-6"] = Case("Tanh", "") with { Opset = 6 },
        ["Tanh-13"] = Case("Tanh", ""),
        ["Erf-9"] = Case("Erf", "") with { Opset = 9 },
        ["Erf-13"] = Case("Erf", ""),
        ["Exp-6"] = Case("Exp", "") with { Opset = 6 },
        ["Exp-13"] = Case("Exp", ""),
        ["Gelu-20"] = Case("Gelu", ""),
        ["Gelu-20, tanh"] = Case("Gelu", "") with { Attributes = [("approximate", "tanh")] },
        ["Gelu of com.microsoft"] = Case("Gelu", "com.microsoft"),
        ["QuickGelu"] = Case("QuickGelu", "com.microsoft"),
        ["QuickGelu, alpha"] = Case("QuickGelu", "com.microsoft") with { Attributes = [("alpha", 1f)] },
        ["FastGelu"] = Case("FastGelu", "com.microsoft"),
        ["FastGelu, bias"] = Case("FastGelu", "com.microsoft", Weight("bias", Width)),
        ["BiasGelu"] = Case("BiasGelu", "com.microsoft", Weight("bias", Width)),
    };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Op(string name) => Checks.All(s_cases[name], output);

    /// <summary>Infinities, NaN, zeros, subnormal and huge values: what the stock kernel gives.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void SpecialValues(string name)
    {
        OpCase op = s_cases[name];
        float[] special = [float.NaN, float.PositiveInfinity, float.NegativeInfinity, 0, -0f, 1e-42f, -1e-42f, 1e30f, -1e30f, 88.8f, -104, 17, -17];
        float[] x = [.. Enumerable.Range(0, 3 * Width).Select(i => special[i % special.Length])];
        Checks.All(op with { Inputs = [Given("x", Tensor.Of([1, 3, Width], x)), .. op.Inputs[1..]], Outputs = [new("y", -1)] }, output);
    }

    private static OpCase Case(string op, string domain, params Operand[] more) =>
        new(op, "elementwise.f32.v2", [Rows("x", [1, 3, Width], amplitude: 8), .. more]) { Domain = domain };
}
