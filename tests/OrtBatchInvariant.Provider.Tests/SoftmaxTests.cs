using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>Softmax and LogSoftmax: one axis from opset 13 on, everything from the axis on before.</summary>
public sealed class SoftmaxTests(ITestOutputHelper output)
{
    public static TheoryData<string, int, int> Cases
    {
        get
        {
            var cases = new TheoryData<string, int, int>();
            foreach (string op in (string[])["Softmax", "LogSoftmax"])
            {
                foreach (int opset in (int[])[11, 13])
                {
                    for (int axis = -3; axis <= 2; axis++)
                    {
                        cases.Add(op, opset, axis);
                    }
                }

                cases.Add(op, 1, 1);
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Op(string op, int opset, int axis)
    {
        int place = axis < 0 ? axis + 3 : axis;

        // Rows lie along an axis that is not summed over; the older form at axis 0 has none.
        int rowAxis = place > 0 ? 0 : opset < 13 ? -1 : 1;
        long[] shape = [7, 5, 133];
        if (rowAxis >= 0)
        {
            shape[rowAxis] = 1;
        }

        Operand x = rowAxis < 0
            ? new("x", -1, false, (random, _) => Tensor.Floats(random, 8, shape))
            : Rows("x", shape, rowAxis, amplitude: 8);
        Checks.All(Case(op, opset, rowAxis, x, ("axis", axis)), output);
    }

    [Theory]
    [InlineData("Softmax", 11)]
    [InlineData("LogSoftmax", 11)]
    [InlineData("Softmax", 21)]
    [InlineData("LogSoftmax", 21)]
    public void DefaultAxis(string op, int opset) => Checks.All(Case(op, opset, 0, Rows("x", [1, 5, 40], amplitude: 8)), output);

    private static OpCase Case(string op, int opset, int rowAxis, Operand x, params (string, object)[] attributes) => new(op, "softmax.f32.v1", x)
    {
        Opset = opset,
        Attributes = attributes,
        Outputs = [new("y", rowAxis)],
        CustomOp = opset < 13 ? null : "",
    };
}
