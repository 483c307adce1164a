using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>Pow: every type of base and exponent that the stock kernel takes, and broadcasting.</summary>
public sealed class PowTests(ITestOutputHelper output)
{
    private const int Width = 61;

    private static readonly TensorElementType[] s_types = [TensorElementType.Float, TensorElementType.Double, TensorElementType.Int32, TensorElementType.Int64];

    public static TheoryData<TensorElementType, TensorElementType> Types
    {
        get
        {
            var pairs = new TheoryData<TensorElementType, TensorElementType>();
            foreach (TensorElementType type in s_types)
            {
                foreach (TensorElementType exponent in s_types.Where(exponent => !IsWhole(type) || !IsWhole(exponent)))
                {
                    pairs.Add(type, exponent);
                }
            }

            return pairs;
        }
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(0.5)]
    [InlineData(-0.5)]
    [InlineData(2.7)]
    public void ByOneExponent(float exponent) => Checks.All(Case(exponent), output);

    /// <summary>A negative base: whole exponents keep or drop its sign, others give NaN.</summary>
    [Fact]
    public void OfEitherSign() =>
        Checks.All(new("Pow", "pow.v1", Rows("x", [1, 5, Width]), Constant("power", Tensor.Of([1, 5, 1], -3f, 2f, 1f, 3f, 0.25f))), output);

    [Fact]
    public void ExponentsOfEachRow() => Checks.All(new("Pow", "pow.v1", Bases("x", 5, Width), Rows("power", [1, 1, Width], amplitude: 4)), output);

    [Fact]
    public void OpSet7() => Checks.All(Case(1.5f) with { Opset = 11 }, output);

    [Theory]
    [MemberData(nameof(Types))]
    public void OfTypes(TensorElementType baseType, TensorElementType exponentType)
    {
        var op = new OpCase("Pow", "pow.v1", Numbers("x", baseType), Numbers("power", exponentType))
        {
            Outputs = [new("y", 0, baseType)],
        };

        // Of doubles and whole numbers the difference is taken below.
        Checks.All(op with { StockOutputs = baseType == TensorElementType.Float ? 1 : 0 }, output);
        if (baseType == TensorElementType.Float)
        {
            return;
        }

        Tensor[] values = op.Values(Checks.Seeded(output), 4);
        byte[] model = op.Model(values);
        using InferenceSession stock = Sessions.Stock(model);
        using InferenceSession ours = Sessions.Ours(model);
        double[] expected = Doubles(Checks.Run(stock, op.Feeds(values), op.OutputNames)[0]);
        double[] actual = Doubles(Checks.Run(ours, op.Feeds(values), op.OutputNames)[0]);
        Assert.NotEmpty(actual);
        Assert.All(expected.Zip(actual), pair => Assert.InRange(pair.Second, pair.First - (1e-15 * Math.Abs(pair.First)), pair.First + (1e-15 * Math.Abs(pair.First))));
    }

    /// <summary>Of whole numbers alone nothing varies.</summary>
    [Fact]
    public void WholeNumbersAloneStayWithTheStockKernel()
    {
        var op = new OpCase("Pow", "", Numbers("x", TensorElementType.Int64), Numbers("power", TensorElementType.Int32)) { Outputs = [new("y", 0, TensorElementType.Int64)] };
        using InferenceSession session = Sessions.Ours(op.Model(op.Values(new Random(1), 2)), out CoverageReport report);
        Assert.Equal((ServedBy.StockInvariant, "", ""), (report.Nodes[0].ServedBy, report.Nodes[0].Reason, report.Nodes[0].CustomOp));
    }

    internal static OpCase Case(float exponent) => new("Pow", "pow.v1", Bases("x", 5, Width), Constant("power", Tensor.Of([], exponent)));

    private static Operand Bases(string name, params long[] shape) => EachRow(name, random =>
    {
        Tensor values = Tensor.Floats(random, 1, [1, .. shape]);
        return Tensor.Of(values.Shape, [.. values.As<float>().ToArray().Select(value => 1.5f + value)]);
    });

    /// <summary>1 to 7 in a type, so that no power of two of them is beyond an int32.</summary>
    private static Operand Numbers(string name, TensorElementType type) => EachRow(name, random =>
    {
        int[] numbers = [.. Enumerable.Range(0, Width).Select(_ => random.Next(1, 8))];
        long[] shape = [1, Width];
        return type switch
        {
            TensorElementType.Float => Tensor.Of(shape, [.. numbers.Select(number => (float)number)]),
            TensorElementType.Int32 => Tensor.Of(shape, numbers),
            TensorElementType.Int64 => Tensor.Of(shape, [.. numbers.Select(number => (long)number)]),
            _ => new Tensor(type, shape, MemoryMarshal.AsBytes(numbers.Select(number => (double)number).ToArray().AsSpan()).ToArray()),
        };
    });

    private static bool IsWhole(TensorElementType type) => type is TensorElementType.Int32 or TensorElementType.Int64;

    private static double[] Doubles(Tensor tensor) => tensor.Type switch
    {
        TensorElementType.Int32 => [.. tensor.As<int>().ToArray().Select(value => (double)value)],
        TensorElementType.Int64 => [.. tensor.As<long>().ToArray().Select(value => (double)value)],
        _ => tensor.As<double>().ToArray(),
    };
}
