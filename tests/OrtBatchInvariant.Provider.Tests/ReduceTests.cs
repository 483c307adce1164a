using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>Reductions over neighbouring axes, which older op sets name in an attribute and later ones in an input.</summary>
public sealed class ReduceTests(ITestOutputHelper output)
{
    public static TheoryData<string, bool> Ops
    {
        get
        {
            var cases = new TheoryData<string, bool>();
            foreach (string op in (string[])["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"])
            {
                cases.Add(op, false);
                cases.Add(op, true);
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Ops))]
    public void LastAxis(string op, bool axesAreInput) => Checks.All(Case(op, axesAreInput, [-1]), output);

    [Theory]
    [MemberData(nameof(Ops))]
    public void LastTwoAxesWithoutKeepingThem(string op, bool axesAreInput) => Checks.All(Case(op, axesAreInput, [2, 1], ("keepdims", 0)), output);

    [Theory]
    [MemberData(nameof(Ops))]
    public void MiddleAxis(string op, bool axesAreInput) => Checks.All(Case(op, axesAreInput, [1]), output);

    [Theory]
    [MemberData(nameof(Ops))]
    public void FirstAxes(string op, bool axesAreInput)
    {
        OpCase first = Case(op, axesAreInput, [-3, 1], ("keepdims", 0));
        Checks.All(first with { Inputs = [Positive("x", 2, 5, 133), .. first.Inputs[1..]], Outputs = [new("y", -1)] }, output);
    }

    [Theory]
    [MemberData(nameof(Ops))]
    public void AllAxes(string op, bool axesAreInput)
    {
        OpCase all = Case(op, axesAreInput, []);
        Checks.All(all with { Inputs = [Positive("x", 1, 5, 133), .. all.Inputs[1..]], Outputs = [new("y", -1)] }, output);
    }

    [Theory]
    [InlineData("ReduceSum")]
    [InlineData("ReduceMean")]
    [InlineData("ReduceMax")]
    public void NoAxesWithNoopIsTheInput(string op) => Checks.All(Case(op, true, [], ("noop_with_empty_axes", 1)), output);

    internal static OpCase Case(string op, bool axesAreInput, long[] axes, params (string, object)[] attributes)
    {
        Operand x = Rows("x", [1, 5, 133]);
        int lastWithAttribute = op == "ReduceSum" ? 12 : 17;
        return new(op, "reduce.f32.v1", axesAreInput ? [x, Constant("axes", Tensor.Of([axes.Length], axes))] : [x])
        {
            Opset = axesAreInput ? lastWithAttribute + 1 : lastWithAttribute,
            Attributes = axesAreInput || axes.Length == 0 ? attributes : [("axes", axes), .. attributes],
        };
    }
}
