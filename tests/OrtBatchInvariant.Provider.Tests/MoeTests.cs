using Microsoft.ML.OnnxRuntime;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>MoE and QMoE of com.microsoft.</summary>
public sealed class MoeTests(ITestOutputHelper output)
{
    private const int Hidden = 64;
    private const int Inter = 32;
    private const int Experts = 5;

    private static readonly (string, object)[] s_swiGlu =
        [("activation_type", "swiglu"), ("swiglu_fusion", 1), ("activation_alpha", 1.702f), ("activation_beta", 1f), ("swiglu_limit", 2f)];

    private static readonly Dictionary<string, OpCase> s_plain = new()
    {
        ["relu, one expert"] = Plain(("activation_type", "relu"), ("k", 1)),
        ["gelu"] = Plain(("activation_type", "gelu"), ("k", 2)),
        ["silu, normalised"] = Plain(("activation_type", "silu"), ("k", 3), ("normalize_routing_weights", 1)),
        ["identity, all experts"] = Plain(("activation_type", "identity"), ("k", Experts)),
        ["swiglu"] = Plain([("k", 2), .. s_swiGlu]),
        ["swiglu without attributes"] = Plain(("activation_type", "swiglu"), ("swiglu_fusion", 1), ("k", 2)),
        ["swiglu, halves"] = Plain([("k", 2), .. s_swiGlu[..1], ("swiglu_fusion", 2), .. s_swiGlu[2..]]) with
        {
            StockForm = Plain([("k", 2), .. s_swiGlu]),
            ToStockForm = values => [.. values[..2], Interleaved(values[2]), Interleaved(values[3]), .. values[4..]],
        },
        ["three dimensions"] = Plain(("activation_type", "silu"), ("k", 2)) with
        {
            Inputs = [Rows("input", [1, 1, Hidden]), .. Plain(("activation_type", "silu")).Inputs[1..]],
        },
        ["without biases"] = WithoutBiases(Plain(("activation_type", "silu"), ("k", 2)), 3, 5),
        ["weights that are computed"] = Computed(Plain(("activation_type", "silu"), ("k", 2))),
    };

    public static TheoryData<string> PlainCases => [.. s_plain.Keys];

    public static TheoryData<int, int, bool, bool> QuantizedCases
    {
        get
        {
            var cases = new TheoryData<int, int, bool, bool>();
            foreach (int bits in (int[])[2, 4, 8])
            {
                foreach (int block in (int[])[0, 16, 32])
                {
                    cases.Add(bits, block, false, false);
                    cases.Add(bits, block, true, true);
                }
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(PlainCases))]
    public void MoE(string name) => Checks.All(s_plain[name], output);

    /// <summary>Stock rounds the activations to int8 beside 8-bit blocks: MoE with the dequantised weights is the judge there.</summary>
    [Theory]
    [MemberData(nameof(QuantizedCases))]
    public void QMoE(int bits, int block, bool zeroPoints, bool normalize)
    {
        (string, object)[] attributes = [("k", 2), .. s_swiGlu];
        OpCase op = Quantized(bits, block, zeroPoints, [.. attributes, .. normalize ? [("normalize_routing_weights", 1)] : Array.Empty<(string, object)>()]);
        bool stockIsInt8 = bits == 8 && block > 0;
        Checks.All(
            op with
            {
                StockForm = stockIsInt8 ? Plain([.. attributes, ("normalize_routing_weights", 1)]) : null,
                ToStockForm = values => !stockIsInt8 ? values :
                [
                    values[0], values[1],
                    Dequantised(values[2], values[3], block, zeroPoints ? values[8] : null), values[4],
                    Dequantised(values[5], values[6], block, zeroPoints ? values[9] : null), values[7],
                ],
            },
            output);
    }

    [Theory]
    [InlineData("silu")]
    [InlineData("gelu")]
    public void QMoEActivations(string activation) => Checks.All(Quantized(4, 32, false, [("k", 2), ("activation_type", activation)]), output);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void QMoERouterWeights(bool normalize)
    {
        OpCase op = Quantized(4, 32, true, [("k", 3), .. s_swiGlu, ("normalize_routing_weights", normalize ? 1 : 0)]);
        Checks.All(op with { Inputs = [.. op.Inputs, null, Rows("router_weights", [1, Experts])] }, output);
    }

    [Fact]
    public void QMoEWithInt8Activations()
    {
        OpCase op = Quantized(4, 32, true, [("k", 2), .. s_swiGlu, ("accuracy_level", 4)]);
        Checks.All(op with { Contract = "moe.nbits.s8.v1", Tolerance = 5e-2 }, output);
    }

    [Fact]
    public void QMoEWeightsThatAreComputed() => Checks.All(Computed(Quantized(4, 32, true, [("k", 2), .. s_swiGlu])) with { StockOutputs = 0 }, output);

    /// <summary>The proof that a comparison of rows can fail: a token's bytes depend on how many share its experts.</summary>
    [Fact]
    public void StockRowsDiffer()
    {
        OpCase op = Quantized(4, 32, false, [("k", 2), .. s_swiGlu]);
        Random random = Checks.Seeded(output);
        Tensor[] values = op.Values(random, 1);
        using InferenceSession stock = Sessions.Stock(op.Model(values));
        Checks.Rows(stock, op, values, random, hostile: false).ExpectSome(output, "stock QMoE");
    }

    internal static OpCase Plain(params (string Name, object Value)[] attributes)
    {
        int rows = attributes.Any(attribute => attribute.Value is "swiglu") ? 2 * Inter : Inter;
        return new(
            "MoE",
            "moe.f32.v1",
            Rows("input", [1, Hidden]),
            Rows("router_probs", [1, Experts]),
            Weight("fc1_weights", Experts, rows, Hidden),
            Weight("fc1_bias", Experts, rows),
            Weight("fc2_weights", Experts, Hidden, Inter),
            Weight("fc2_bias", Experts, Hidden))
        {
            Domain = "com.microsoft",
            Attributes = attributes,
        };
    }

    internal static OpCase Quantized(int bits, int block, bool zeroPoints, (string Name, object Value)[] attributes)
    {
        int rows = attributes.Any(attribute => attribute.Value is "swiglu") ? 2 * Inter : Inter;
        long[] Scales(int n, int k) => block == 0 ? [Experts, n] : [Experts, n, k / block];
        Operand? Zeros(string name, int n, int k) => !zeroPoints ? null
            : block == 0 ? Bytes(name, Experts, n * bits / 8)
            : Bytes(name, Experts, n, ((k / block * bits) + 7) / 8);
        return new(
            "QMoE",
            "moe.nbits.f32.v1",
            Rows("input", [1, Hidden]),
            Rows("router_probs", [1, Experts]),
            Bytes("fc1_weights", Experts, rows, Hidden * bits / 8),
            Weight("fc1_scales", Scales(rows, Hidden)),
            Weight("fc1_bias", Experts, rows),
            Bytes("fc2_weights", Experts, Hidden, Inter * bits / 8),
            Weight("fc2_scales", Scales(Hidden, Inter)),
            Weight("fc2_bias", Experts, Hidden),
            null,
            null,
            null,
            Zeros("fc1_zero_points", rows, Hidden),
            Zeros("fc2_zero_points", Hidden, Inter))
        {
            Domain = "com.microsoft",
            // Codes up to 128 scales large cancel: stock's fp32 sums in another order differ by 4e-6 of the largest result.
            Tolerance = 2e-5,
            Attributes = [("expert_weight_bits", bits), .. block > 0 ? [("block_size", block)] : Array.Empty<(string, object)>(), .. attributes],
        };
    }

    private static OpCase WithoutBiases(OpCase op, params int[] biases) =>
        op with { Inputs = [.. op.Inputs.Select((input, i) => biases.Contains(i) ? null : input)] };

    private static OpCase Computed(OpCase op) => op with { Inputs = [.. op.Inputs.Select(input => input is null ? null : input with { IsConstant = false })] };

    private static Operand Bytes(string name, params long[] shape) => new(name, -1, true, (random, _) =>
    {
        byte[] bytes = new byte[shape.Aggregate(1L, (product, dimension) => product * dimension)];
        random.NextBytes(bytes);
        return Tensor.Of(shape, bytes);
    });

    /// <summary>8-bit weights [experts, n, k] with one scale (and zero point) a block, as floats.</summary>
    private static Tensor Dequantised(Tensor weights, Tensor scales, int block, Tensor? zeroPoints)
    {
        int k = (int)weights.Shape[2];
        int blocks = k / block;
        float[] values = new float[weights.Elements];
        for (int i = 0; i < values.Length; i++)
        {
            int at = (i / k * blocks) + (i % k / block);
            values[i] = (weights.Bytes[i] - (zeroPoints?.Bytes[at] ?? 128)) * scales.As<float>()[at];
        }

        return Tensor.Of(weights.Shape, values);
    }

    /// <summary>Rows of two halves as rows that alternate, along axis 1.</summary>
    private static Tensor Interleaved(Tensor halves)
    {
        var alternating = halves with { Bytes = new byte[halves.Bytes.Length] };
        long half = halves.Shape[1] / 2;
        for (long row = 0; row < 2 * half; row++)
        {
            alternating.Place(1, row, halves.Slice(1, (row % 2 * half) + (row / 2), 1));
        }

        return alternating;
    }
}
