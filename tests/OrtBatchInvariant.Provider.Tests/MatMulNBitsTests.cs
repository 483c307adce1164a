using Microsoft.ML.OnnxRuntime;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>MatMulNBits, quantised weights in blocks along K.</summary>
public sealed class MatMulNBitsTests(ITestOutputHelper output)
{
    public enum Zeros
    {
        None,
        Packed,
        Float,
    }

    public static TheoryData<int, int, Zeros, bool, int> Cases
    {
        get
        {
            var cases = new TheoryData<int, int, Zeros, bool, int>();
            foreach (int bits in (int[])[2, 4, 8])
            {
                foreach (int accuracyLevel in (int[])[0, 4])
                {
                    foreach (Zeros zeros in Enum.GetValues<Zeros>())
                    {
                        cases.Add(bits, accuracyLevel, zeros, false, 32);
                        cases.Add(bits, accuracyLevel, zeros, true, 64);
                    }

                    cases.Add(bits, accuracyLevel, Zeros.Packed, true, 16);
                    cases.Add(bits, accuracyLevel, Zeros.Packed, false, 128);
                }
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Op(int bits, int accuracyLevel, Zeros zeros, bool bias, int blockSize) =>
        Checks.All(Case(160, 72, bits, accuracyLevel, zeros, bias, blockSize), output);

    [Theory]
    [InlineData(4, 0)]
    [InlineData(8, 4)]
    public void KThatTheBlockDoesNotDivide(int bits, int accuracyLevel) => Checks.All(Case(150, 33, bits, accuracyLevel, Zeros.Packed, true, 32), output);

    [Theory]
    [InlineData(16, 1, 16)]
    [InlineData(256, 5, 256)]
    [InlineData(40, 3, 256)]
    public void SmallAndLargeBlocks(int k, int n, int blockSize)
    {
        Checks.All(Case(k, n, 4, 0, Zeros.Packed, false, blockSize), output);
        Checks.All(Case(k, n, 4, 4, Zeros.None, true, blockSize), output);
    }

    [Fact]
    public void ScalesThatAreComputed()
    {
        OpCase op = Case(128, 40, 4, 0, Zeros.Packed, false, 32);
        Checks.All(op with { Inputs = [.. op.Inputs.Select(input => input?.Name == "scales" ? input with { IsConstant = false } : input)] }, output);
    }

    [Theory]
    [InlineData(4, 0)]
    [InlineData(4, 4)]
    public void WeightsThatAreComputed(int bits, int accuracyLevel)
    {
        OpCase op = Case(128, 40, bits, accuracyLevel, Zeros.Packed, false, 32);
        Checks.All(op with { Inputs = [.. op.Inputs.Select(input => input is null ? null : input with { IsConstant = false })] }, output);
    }

    /// <summary>
    /// g_idx: the block whose scale and zero point an element has. Stock 1.31.1 has it for 4 bits, and leaves packed zero points out of
    /// account beside it: the same zero points as floats are the judge.
    /// </summary>
    [Theory]
    [InlineData(4, Zeros.None, true)]
    [InlineData(4, Zeros.Packed, true)]
    [InlineData(4, Zeros.Float, true)]
    [InlineData(4, Zeros.Packed, false)]
    [InlineData(8, Zeros.Packed, true)]
    public void GroupIndex(int bits, Zeros zeros, bool isConstant)
    {
        const int K = 160;
        const int Blocks = K / 32;
        var index = new Operand("g_idx", -1, isConstant, (random, _) => Tensor.Of([K], [.. Enumerable.Range(0, K).Select(_ => random.Next(Blocks))]));
        OpCase Indexed(Zeros kind)
        {
            OpCase op = Case(K, 72, bits, 4, kind, true, 32);
            return op with { Contract = "gemm.nbits.f32.v1", Inputs = [.. op.Inputs[..4], index, .. op.Inputs[5..]], Tolerance = 4e-6 };
        }

        Checks.All(
            Indexed(zeros) with
            {
                StockOutputs = bits == 4 ? 1 : 0,
                StockForm = zeros == Zeros.Packed ? Indexed(Zeros.Float) : null,
                ToStockForm = values => zeros == Zeros.Packed ? [.. values[..3], Unpacked(values[3], Blocks), .. values[4..]] : values,
            },
            output);
    }

    [Theory]
    [InlineData(4, 0, Zeros.None)]
    [InlineData(4, 4, Zeros.Packed)]
    [InlineData(8, 0, Zeros.Float)]
    public void WithoutPrepackingTheBytesAreTheSame(int bits, int accuracyLevel, Zeros zeros) =>
        SessionTests.SameBytesWithoutPrepacking(Case(160, 72, bits, accuracyLevel, zeros, true, 32), output);

    /// <summary>The proof that a comparison of rows can fail: the stock kernel dequantises ahead of its product above one row.</summary>
    [Fact]
    public void StockRowsDiffer()
    {
        OpCase op = Case(512, 512, 4, 0, Zeros.None, false, 32);
        Random random = Checks.Seeded(output);
        Tensor[] values = op.Values(random, 1);
        using InferenceSession stock = Sessions.Stock(op.Model(values));
        Checks.Rows(stock, op, values, random, hostile: false).ExpectSome(output, "stock int4, accuracy_level 0");
        using InferenceSession ours = Sessions.Ours(op.Model(values));
        Checks.Rows(ours, op, values, random, hostile: false).ExpectNone(output, "provider");
    }

    internal static OpCase Case(int k, int n, int bits, int accuracyLevel, Zeros zeros, bool bias, int blockSize)
    {
        int blocks = (k + blockSize - 1) / blockSize;

        // Float zero points have no integer product.
        bool isInt8 = accuracyLevel == 4 && zeros != Zeros.Float;
        bool isOnlyOurs = bits == 8 && zeros == Zeros.Float;
        Operand? zeroPoints = zeros switch
        {
            Zeros.Packed => Packed("zero_points", n, ((blocks * bits) + 7) / 8),
            Zeros.Float => new("zero_points", -1, true, (random, _) => Tensor.Floats(random, 4, n, blocks)),
            _ => null,
        };
        return new(
            "MatMulNBits",
            isInt8 ? "gemm.nbits.s8.v1" : "gemm.nbits.f32.v1",
            Rows("a", [1, 1, k]),
            Packed("b", n, blocks, blockSize * bits / 8),
            Weight("scales", n, blocks),
            zeroPoints,
            null,
            bias ? Weight("bias", n) : null)
        {
            Domain = "com.microsoft",
            Attributes = [("K", k), ("N", n), ("bits", bits), ("block_size", blockSize), ("accuracy_level", accuracyLevel)],

            // Level 4 rounds the activations of a block to 1/127 of their largest. A stock kernel may round a tie the other way, or, where
            // it has no int8 kernel for a form, not round at all.
            Tolerance = isInt8 ? 2e-2 : 4e-6,

            // Stock has no kernel for 8 bits with float zero points: the product with the dequantised weights is the judge.
            StockForm = isOnlyOurs ? MatMulTests.Gemm(Shared("a"), Weight("w"), Weight("bias"), ("transB", 1)) : null,
            ToStockForm = inputs => isOnlyOurs ? Dequantise(inputs, k, n, blockSize) : inputs,
            ToOurForm = results => isOnlyOurs ? [results[0].Reshape(results[0].Shape[0], 1, n)] : results,
        };
    }

    /// <summary>4-bit values [n, bytes] as floats [n, <paramref name="count"/>].</summary>
    private static Tensor Unpacked(Tensor packed, int count)
    {
        long n = packed.Shape[0];
        int bytes = (int)packed.Shape[1];
        return Tensor.Of(
            [n, count],
            [.. Enumerable.Range(0, (int)n * count).Select(i => (float)((packed.Bytes[(i / count * bytes) + (i % count / 2)] >> (i % count % 2 * 4)) & 15))]);
    }

    /// <summary>8-bit weights with float zero points as the operands of a Gemm.</summary>
    private static Tensor[] Dequantise(Tensor[] inputs, int k, int n, int blockSize)
    {
        int blocks = (k + blockSize - 1) / blockSize;
        float[] weights = new float[n * k];
        for (int i = 0; i < weights.Length; i++)
        {
            int row = i / k;
            int block = (row * blocks) + (i % k / blockSize);
            int quantised = inputs[1].As<byte>()[(block * blockSize) + (i % k % blockSize)];
            weights[i] = (quantised - inputs[3].As<float>()[block]) * inputs[2].As<float>()[block];
        }

        return [inputs[0].Reshape(inputs[0].Shape[0], k), Tensor.Of([n, k], weights), inputs.Length > 4 ? inputs[4] : Tensor.Of([n], new float[n])];
    }

    private static Operand Packed(string name, params long[] shape) => new(name, -1, true, (random, _) =>
    {
        byte[] bytes = new byte[shape.Aggregate(1L, (product, dimension) => product * dimension)];
        random.NextBytes(bytes);
        return Tensor.Of(shape, bytes);
    });
}
