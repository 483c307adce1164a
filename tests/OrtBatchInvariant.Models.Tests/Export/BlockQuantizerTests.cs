using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Tests.Support;
using Xunit.Abstractions;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Tests.Export;

/// <summary>The quantiser against its definition, element by element and bit by bit.</summary>
public class BlockQuantizerTests(ITestOutputHelper output)
{
    public static TheoryData<int, int, bool, int> Cases
    {
        get
        {
            var cases = new TheoryData<int, int, bool, int>();
            foreach (var bits in (int[])[4, 8])
            {
                foreach (var block in (int[])[16, 32, 64, 128, 256])
                {
                    foreach (var symmetric in (bool[])[true, false])
                    {
                        // Whole blocks, an odd number of blocks, tails, less than a block, an odd tail.
                        foreach (var k in (int[])[block, 3 * block, (2 * block) + 8, block / 2, block + 5])
                        {
                            cases.Add(bits, block, symmetric, k);
                        }
                    }
                }
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void EveryValueIsTheNearestOfItsBlock(int bits, int block, bool symmetric, int k)
    {
        var quantizer = new BlockQuantizer(bits, block, symmetric, DataType.Float);
        var random = new Random(bits + block + k);
        var (max, middle) = ((1 << bits) - 1, 1 << (bits - 1));
        var compared = 0;
        for (var trial = 0; trial < 20; trial++)
        {
            var row = Enumerable.Range(0, k).Select(_ => Weight(random, trial)).ToArray();
            var (values, scales, zeros) = Quantize(quantizer, (float[])row.Clone());
            for (var b = 0; b < quantizer.BlockCount(k); b++)
            {
                var part = row[(b * block)..Math.Min((b + 1) * block, k)];
                var zero = symmetric ? middle : Zero(zeros, bits, b);
                if (symmetric)
                {
                    var extreme = part.MaxBy(w => Math.Abs((double)w));
                    Assert.Equal(-extreme / (float)middle, scales[b]);
                }
                else
                {
                    var (low, high) = (Math.Min(0, (double)part.Min()), Math.Max(0, (double)part.Max()));
                    Assert.Equal((float)((high - low) / max), scales[b], 1e-6 * scales[b]);
                    Assert.InRange(zero + (low / Math.Max(scales[b], double.Epsilon)), -0.5001, 0.5001);
                }

                for (var i = 0; i < part.Length; i++)
                {
                    var q = Value(values, bits, block, b, i);
                    double scale = scales[b];
                    var exact = scale == 0 ? zero : (part[i] / scale) + zero;
                    var nearest = Math.Clamp(Math.Round(exact, MidpointRounding.AwayFromZero), 0, max);

                    // fp32 may fall to the other side of a half, and only there.
                    var isAtHalf = Math.Abs(Math.Abs(exact - Math.Truncate(exact)) - 0.5) < 1e-4;
                    var isNearest = q == nearest || (isAtHalf && Math.Abs(q - exact) < 0.5001);
                    Assert.True(isNearest, $"w {part[i]}, scale {scale}, zero {zero}: {q}, not {nearest}");

                    // Half a step; a whole one where the range ends short, a symmetric block's far side.
                    Assert.InRange(Math.Abs(part[i] - ((q - zero) * scale)), 0, Math.Abs(scale) * (symmetric ? 1.0001 : 1.0));
                    compared++;
                }
            }

            // Nothing is left in the bytes past the end of the row.
            for (var i = k; i < quantizer.BlockCount(k) * block; i++)
            {
                Assert.Equal(0, Value(values, bits, block, i / block, i % block));
            }
        }

        output.WriteLine($"{compared} weights compared");
        Assert.NotEqual(0, compared);
    }

    [Fact]
    public void FourBitsArePackedLowNibbleFirst()
    {
        // Extreme -8 gives scale 1, so weights are their own steps.
        float[] row = [-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7];
        var (values, scales, _) = Quantize(new BlockQuantizer(4, 16, symmetric: true, DataType.Float), row);
        Assert.Equal([1f], scales);
        Assert.Equal([0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE], values);
    }

    [Fact]
    public void APositiveExtremeGivesANegativeScale()
    {
        var row = new float[16];
        row[0] = 8;
        row[1] = -7;
        row[2] = 0.5f;
        row[3] = -0.5f;
        var (values, scales, _) = Quantize(new BlockQuantizer(4, 16, symmetric: true, DataType.Float), row);
        Assert.Equal([-1f], scales);

        // Steps -8, 7, -0.5 and 0.5 from 8: halves go away from zero in the unsigned value, up.
        Assert.Equal([0xF0, 0x98], values[..2]);
    }

    [Fact]
    public void OfEqualExtremesTheNegativeOneCounts()
    {
        var row = new float[16];
        (row[0], row[1]) = (4, -4);
        var (values, scales, _) = Quantize(new BlockQuantizer(4, 16, symmetric: true, DataType.Float), row);
        Assert.Equal([0.5f], scales);
        Assert.Equal(0x0F, values[0]);
    }

    [Fact]
    public void ZeroPointsArePackedLowNibbleFirstAndTheLastIsTheMiddle()
    {
        // Three blocks: from -3 to 12, from 0 to 15, from -15 to 0, each of scale 1.
        var row = new float[48];
        (row[0], row[1], row[16], row[32]) = (-3, 12, 15, -15);
        var (values, scales, zeros) = Quantize(new BlockQuantizer(4, 16, symmetric: false, DataType.Float), row);
        Assert.Equal([1f, 1f, 1f], scales);
        Assert.Equal([0x03, 0x8F], zeros);
        Assert.Equal(0xF0, values[0]);
        Assert.Equal(0x0F, values[8]);
        Assert.Equal(0xF0, values[16]);
    }

    [Theory]
    [InlineData(4, 0x88)]
    [InlineData(8, 0x80)]
    public void ABlockOfZerosIsExact(int bits, int expected)
    {
        var (values, scales, _) = Quantize(new BlockQuantizer(bits, 16, symmetric: true, DataType.Float), new float[16]);
        Assert.Equal(0f, scales[0]);
        Assert.All(values, value => Assert.Equal(expected, value));
    }

    [Theory]
    [InlineData(DataType.Float16)]
    [InlineData(DataType.Bfloat16)]
    public void ScalesAreUsedAsTheyAreStored(DataType type)
    {
        var random = new Random(3);
        var row = Enumerable.Range(0, 64).Select(_ => FloatEncoding.Round((float)(random.NextDouble() - 0.5), type, "w")).ToArray();
        var (values, scales, _) = Quantize(new BlockQuantizer(8, 32, symmetric: true, type), (float[])row.Clone());
        for (var k = 0; k < row.Length; k++)
        {
            Assert.Equal(scales[k / 32], FloatEncoding.Round(scales[k / 32], type, "w"));
            var exact = (row[k] / (double)scales[k / 32]) + 128;
            Assert.InRange(Math.Abs(values[k] - Math.Clamp(exact, 0, 255)), 0, 0.5001);
        }
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void WhatIsNotFiniteIsRefused(float value)
    {
        for (var at = 0; at < 37; at++)
        {
            var row = new float[37];
            row[at] = value;
            var error = Assert.Throws<ModelException>(() => Quantize(new BlockQuantizer(4, 32, symmetric: true, DataType.Float), row));
            OneSentence.Check(error, "'w'");
        }
    }

    private static (byte[] Values, float[] Scales, byte[] Zeros) Quantize(BlockQuantizer quantizer, float[] row)
    {
        var blocks = quantizer.BlockCount(row.Length);
        var values = new byte[blocks * quantizer.BlobBytes];
        Array.Fill(values, (byte)0xA5);
        var scales = Enumerable.Repeat(float.NaN, blocks).ToArray();
        var zeros = new byte[quantizer.IsSymmetric ? 0 : quantizer.ZeroPointBytes(row.Length)];
        quantizer.QuantizeRow(row, values, scales, zeros, "w");
        return (values, scales, zeros);
    }

    private static float Weight(Random random, int trial) => (trial % 4) switch
    {
        0 => (float)(random.NextDouble() - 0.5),
        1 => (float)((random.NextDouble() + 0.1) * 3),
        2 => (float)-random.NextDouble(),
        _ => (float)(Math.Pow(10, (random.NextDouble() * 8) - 4) * (random.Next(2) == 0 ? 1 : -1)),
    };

    private static int Value(byte[] values, int bits, int block, int b, int i) =>
        bits == 8 ? values[(b * block) + i] : (values[((b * block) + i) / 2] >> (4 * (i % 2))) & 0xF;

    private static int Zero(byte[] zeros, int bits, int b) => bits == 8 ? zeros[b] : (zeros[b / 2] >> (4 * (b % 2))) & 0xF;
}
