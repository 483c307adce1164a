using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>What is not served is refused in one sentence under strict, and listed with its reason otherwise.</summary>
public sealed class RefusalTests(ITestOutputHelper output)
{
    private static readonly OpCase s_bits = MatMulNBitsTests.Case(64, 16, 4, 0, MatMulNBitsTests.Zeros.None, false, 32);
    private static readonly OpCase s_decode = GroupQueryAttentionTests.Case(1, 8);

    /// <summary>The case, the reason, and whether a stock CPU kernel serves it.</summary>
    private static readonly Dictionary<string, (OpCase Op, string Reason, bool StockServes)> s_refused = new()
    {
        ["MatMulNBits, weight_prepacked"] = (With(s_bits, ("weight_prepacked", 1)), "weights that were packed ahead (weight_prepacked) are not served", false),
        ["MatMulNBits, block_size 512"] = (
            MatMulNBitsTests.Case(512, 16, 4, 0, MatMulNBitsTests.Zeros.None, false, 512), "MatMulNBits is served for block_size 16 to 256, got 512", false),
        ["GroupQueryAttention, k_quant_type"] = (
            With(s_decode, ("k_quant_type", "PER_TENSOR"), ("v_quant_type", "PER_TENSOR"), ("kv_cache_bit_width", 8)),
            "a quantised KV cache (k_quant_type = PER_TENSOR) is not served",
            false),
        ["GroupQueryAttention, k_scale"] = (
            GroupQueryAttentionTests.Case(1, 8, more: GroupQueryAttentionTests.Extra(kScale: Weight("k_scale", 1), vScale: Weight("v_scale", 1))),
            "a quantised KV cache (k_scale, v_scale) is not served",
            false),
        ["MultiHeadAttention, past_sequence_length"] = (
            AttentionTests.MultiHead(
                [.. AttentionTests.Qkv(7), null, null, null, .. AttentionTests.PastOf(4, 12), Given("past_sequence_length", Tensor.Of([1], 7))]),
            "the input past_sequence_length is not served",
            false),
        ["MultiHeadAttention, cache_indirection"] = (
            AttentionTests.MultiHead(
                [.. AttentionTests.Qkv(7), null, null, null, .. AttentionTests.PastOf(4, 12), null, Given("cache_indirection", Tensor.Of([1, 1, 11], new int[11]))]),
            "the input cache_indirection is not served",
            false),
        ["Attention of com.microsoft, do_rotary"] = (
            AttentionTests.PackedQkv([], ("do_rotary", 1)),
            "do_rotary is not served (nor by ONNX Runtime on CPUs): use RotaryEmbedding and MultiHeadAttention",
            false),
        ["Attention of com.microsoft, past_present_share_buffer"] = (
            AttentionTests.PackedQkv([], ("past_present_share_buffer", 1)),
            "a past that shares its buffer with present is not served (nor by ONNX Runtime on CPUs)",
            false),
        ["MoE, use_sparse_mixer"] = (MoeTests.Plain(("k", 2), ("use_sparse_mixer", 1)), "the attribute use_sparse_mixer is not served", true),
        ["MoE, swiglu_fusion 0"] = (
            MoeTests.Plain(("activation_type", "swiglu")), "swiglu is served with swiglu_fusion 1 and 2, got 0", false),
        ["MoE, fc3"] = (
            MoeTests.Plain() with { Inputs = [.. MoeTests.Plain().Inputs, Weight("fc3_weights", 5, 32, 64)] },
            "a third layer (fc3) is not served (nor by ONNX Runtime on CPUs)",
            false),
        ["QMoE, quant_type"] = (MoeTests.Quantized(4, 32, false, [("quant_type", "fp4")]), "quant_type 'fp4' is not served", false),
        ["RotaryEmbedding, scale"] = (RotaryEmbeddingTests.MicrosoftFlat(("scale", 0.5f)), "the attribute scale is not served, only 1.0", true),
        ["LayerNormalization, stash_type"] = (
            NormTests.Norm("LayerNormalization", 1, Rows("x", [1, 8]), Weight("scale", 8), null, ("stash_type", 16)),
            "stash_type 16 is not served, only 1 (float32)",
            true),
        ["RMSNormalization, stash_type"] = (
            NormTests.Norm("RMSNormalization", 1, Rows("x", [1, 8]), Weight("scale", 8), null, ("stash_type", 16)) with { Opset = 23 },
            "stash_type 16 is not served, only 1 (float32)",
            false),
        ["Attention, softmax_precision"] = (
            AttentionTests.Onnx(AttentionTests.ByHead(4, 7), ("softmax_precision", 11)), "softmax_precision 11 is not served, only 1 (float32) and below", false),
        ["ReduceMax over axes that are no neighbours"] = (ReduceTests.Case("ReduceMax", true, [0, 2]), "only a reduction over neighbouring axes is served", true),
        ["ReduceSum over computed axes"] = (
            new("ReduceSum", "reduce.f32.v1", Rows("x", [1, 8]), Given("axes", Tensor.Of([1], 1L))), "axes that are computed are not served", true),
        ["MatMul, float64"] = (
            MatMulTests.MatMul(Zeros("a", TensorElementType.Double, 1, 8), Zeros("b", TensorElementType.Double, 8, 3)) with
            {
                Outputs = [new("y", -1, TensorElementType.Double)],
            },
            "float64",
            true),
    };

    /// <summary>The case, inputs that do not fit each other, and what the message says.</summary>
    private static readonly Dictionary<string, (OpCase Op, Func<Random, Tensor[], Tensor[]> Spoil, string Message)> s_wrongShapes = new()
    {
        ["MatMul"] = (
            MatMulTests.MatMul(Rows("a", [1, 8]), Weight("b", 8, 3)), (random, values) => [Tensor.Floats(random, 1, 2, 7), values[1]],
            "MatMul: inner dimensions differ: [2,7] times [8,3]"),
        ["MatMul, leading dimensions"] = (
            MatMulTests.MatMul(Rows("a", [1, 2, 8]), Shared("b", 1, 8, 3)),
            (random, values) => [Tensor.Floats(random, 1, 2, 2, 8), Tensor.Floats(random, 1, 3, 8, 3)],
            "MatMul: leading dimensions do not broadcast: [2,2,8] times [3,8,3]"),
        ["Gemm"] = (
            MatMulTests.Gemm(Rows("a", [1, 8]), Weight("b", 8, 3), Shared("c", 3)), (random, values) => [values[0], values[1], Tensor.Floats(random, 1, 4)],
            "Gemm: C [4] does not broadcast to [2,3]"),
        ["MatMulNBits"] = (
            s_bits, (random, values) => [Tensor.Floats(random, 1, 2, 1, 63), .. values[1..]],
            "MatMulNBits: A is [2,1,63], its last dimension must be K = 64"),
        ["SimplifiedLayerNormalization"] = (
            NormTests.Norm("SimplifiedLayerNormalization", 1, Rows("x", [1, 8]), Weight("scale", 8), null),
            (random, values) => [Tensor.Floats(random, 1, 2, 9), values[1]],
            "SimplifiedLayerNormalization: the scale is [8], needed are 9 elements"),
        ["SkipSimplifiedLayerNormalization"] = (
            NormTests.Skip("SkipSimplifiedLayerNormalization", ["y"], Rows("x", [1, 8]), Rows("skip", [1, 8]), Weight("gamma", 8)),
            (random, values) => [values[0], Tensor.Floats(random, 1, 3, 8), values[2]],
            "SkipSimplifiedLayerNormalization: skip is [3,8], which does not fit the input [2,8]"),
        ["GroupQueryAttention"] = (
            s_decode, (random, values) => [.. values[..3], Tensor.Floats(random, 1, 2, 2, 8, 31), .. values[4..]],
            "GroupQueryAttention: past_key is [2,2,8,31], needed is [2,2,8,32]"),
        ["MultiHeadAttention"] = (
            AttentionTests.MultiHead(AttentionTests.Qkv(7)), (random, values) => [values[0], Tensor.Floats(random, 1, 2, 7, 47), values[2]],
            "MultiHeadAttention: key is [2,7,47], needed is [batch, kv_sequence, num_heads * head_size]"),
        ["Attention"] = (
            AttentionTests.Onnx(AttentionTests.ByHead(4, 7)), (random, values) => [values[0], Tensor.Floats(random, 1, 2, 4, 7, 11), values[2]],
            "Attention: K is [2,4,7,11], needed is a tensor whose batch, heads and head size go with Q and V"),
        ["RotaryEmbedding"] = (
            RotaryEmbeddingTests.MicrosoftFlat(), (random, values) => [values[0], Tensor.Of([1, 5], 0L, 1, 2, 3, 4), .. values[2..]],
            "RotaryEmbedding: position_ids are [1,5], needed are [2,5]"),
        ["RotaryEmbedding, position beyond the caches"] = (
            RotaryEmbeddingTests.MicrosoftFlat(), (random, values) => [values[0], Tensor.Of([2, 5], 0L, 1, 2, 3, 4, 5, 6, 7, 8, 40), .. values[2..]],
            "rotary embedding: position 40 is outside the 40 rows of the cos and sin caches"),
    };

    public static TheoryData<string> Refused => [.. s_refused.Keys];

    public static TheoryData<string> WrongShapes => [.. s_wrongShapes.Keys];

    [Theory]
    [MemberData(nameof(Refused))]
    public void StrictNamesTheNodeAndTheReason(string name)
    {
        (OpCase op, string reason, _) = s_refused[name];
        byte[] model = op.Model(op.Values(Checks.Seeded(output), 2));
        string message = Assert.Throws<OnnxRuntimeException>(() => Sessions.Ours(model).Dispose()).Message;
        output.WriteLine(message);
        Assert.Contains($"strict: node 'node' ({(op.Domain == "" ? "" : op.Domain + ".")}{op.Op}: ", message, StringComparison.Ordinal);
        Assert.Contains(reason, message, StringComparison.Ordinal);
        Assert.EndsWith("set the option strict=0 to allow that, or change the model", message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }

    [Theory]
    [MemberData(nameof(Refused))]
    public void WithoutStrictTheReportSaysSoAndTheStockKernelRuns(string name)
    {
        (OpCase op, string reason, bool stockServes) = s_refused[name];
        Tensor[] values = op.Values(Checks.Seeded(output), 2);
        byte[] model = op.Model(values);
        using var options = new SessionOptions();
        options.AppendBatchInvariant(new BatchInvariantOptions { Strict = false });
        InferenceSession session;
        try
        {
            session = new InferenceSession(model, options);
        }
        catch (OnnxRuntimeException exception) when (!stockServes)
        {
            output.WriteLine($"no stock kernel: {exception.Message}");
            Assert.ThrowsAny<OnnxRuntimeException>(() => Sessions.Stock(model).Dispose());
            return;
        }

        using (session)
        {
            CoverageNode node = Assert.Single(CoverageReport.ForSession(options).VaryingNodes);
            Assert.Equal(("node", op.Op, ServedBy.StockVarying, ""), (node.Name, node.Op, node.ServedBy, node.Contract));
            Assert.Contains(reason, node.Reason, StringComparison.Ordinal);
            if (stockServes)
            {
                using InferenceSession stock = Sessions.Stock(model);
                Checks.Same(Checks.Run(stock, op.Feeds(values), op.OutputNames), Checks.Run(session, op.Feeds(values), op.OutputNames))
                    .ExpectNone(output, "stock session against ours without strict");
            }
        }
    }

    /// <summary>A session that must run on a GPU and was given none: the message says why this process has none.</summary>
    [Fact]
    public void AMissingGpuIsNamedWithItsCause()
    {
        OpCase op = MatMulTests.MatMul(Rows("a", [1, 8]), Weight("b", 8, 3));
        string message = Assert.Throws<OnnxRuntimeException>(() => Sessions.Ours(
            op.Model(op.Values(Checks.Seeded(output), 2)), out _,
            configure: options => options.AddSessionConfigEntry("ep.batchinvariantexecutionprovider.device", "cuda")).Dispose()).Message;
        output.WriteLine(message);
        Assert.Matches(@"\((this library was built without CUDA|there is no NVIDIA driver here, or one that is older than CUDA [\d.]+ needs|CUDA finds no GPU here|none of the GPUs here .*)\)", message);
        Assert.Contains("compute capability 8.0", message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message.TrimEnd());
    }

    /// <summary>Also a name that is spelt wrong, which would have no effect.</summary>
    [Theory]
    [InlineData("stict", "0", "there is no option 'stict', use one of strict, instruction_set, report_id, device, device_id, enable_cuda_graph, fuse")]
    [InlineData("fuse", "no", "the option fuse is 'no', use 1 or 0")]
    [InlineData("device", "tpu", "the option device is 'tpu', use cpu or cuda")]
    [InlineData("device_id", "-1", "the option device_id is '-1', use a number from 0 on")]
    [InlineData("instruction_set", "mmx", "the option instruction_set is 'mmx', this machine can run scalar")]
    public void OptionsThatMakeNoSenseAreRefused(string name, string value, string expected)
    {
        OpCase op = MatMulTests.MatMul(Rows("a", [1, 8]), Weight("b", 8, 3));
        string message = Assert.Throws<OnnxRuntimeException>(() => Sessions.Ours(
            op.Model(op.Values(Checks.Seeded(output), 2)), out _,
            configure: options => options.AddSessionConfigEntry($"ep.batchinvariantexecutionprovider.{name}", value)).Dispose()).Message;
        output.WriteLine(message);
        Assert.Contains(expected, message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message.TrimEnd());
    }

    /// <summary>Whole numbers have no roundings: a product of integers is left to the stock kernel, strict or not.</summary>
    [Fact]
    public void IntegersAreInvariantByNature()
    {
        Operand a = Given("a", Tensor.Of([2, 3], 1, 2, 3, 4, 5, 6));
        OpCase op = MatMulTests.MatMul(a, a with { Name = "b", Make = (_, _) => Tensor.Of([3, 1], 1, 10, 100) }) with
        {
            Outputs = [new("y", -1, TensorElementType.Int32)],
        };
        Tensor[] values = op.Values(Checks.Seeded(output), 1);
        using InferenceSession ours = Sessions.Ours(op.Model(values), out CoverageReport report);
        Assert.Equal(ServedBy.StockInvariant, Assert.Single(report.Nodes).ServedBy);
        Assert.Equal([321, 654], Checks.Run(ours, op.Feeds(values), ["y"])[0].As<int>().ToArray());
    }

    /// <summary>The custom op has no stock kernel to fall back to: its session is refused, whatever strict says.</summary>
    [Theory]
    [MemberData(nameof(Refused))]
    public void CustomOpIsRefusedForTheSameReason(string name)
    {
        (OpCase op, string reason, _) = s_refused[name];
        string message = Assert.ThrowsAny<OnnxRuntimeException>(() => Sessions.Custom(op.Model(op.Values(Checks.Seeded(output), 2), custom: true)).Dispose()).Message;
        output.WriteLine(message);

        // ONNX Runtime itself refuses types that no custom op was registered for, in its own words.
        if (!reason.StartsWith("float", StringComparison.Ordinal))
        {
            Assert.Contains($"'node' ({op.Op}): {reason}", message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(WrongShapes))]
    public void WrongShapesAtRunTimeGiveOneSentence(string name)
    {
        (OpCase op, Func<Random, Tensor[], Tensor[]> spoil, string expected) = s_wrongShapes[name];
        Random random = Checks.Seeded(output);
        Tensor[] values = op.Values(random, 2);
        Tensor[] spoilt = spoil(random, values);
        foreach (bool custom in (bool[])[false, true])
        {
            byte[] model = op.Model(values, custom, anyShape: true);
            using InferenceSession session = custom ? Sessions.Custom(model) : Sessions.Ours(model);
            string message = Assert.Throws<OnnxRuntimeException>(() => Checks.Run(session, op.Feeds(spoilt), op.OutputNames)).Message;
            output.WriteLine(message);
            Assert.EndsWith(expected, message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', message);

            // A refused run leaves the session as it was.
            Assert.NotEmpty(Sessions.Run(session, op.Feeds(values), op.OutputNames));
        }
    }

    private static OpCase With(OpCase op, params (string, object)[] attributes) => op with { Attributes = [.. op.Attributes, .. attributes] };

    private static Operand Zeros(string name, TensorElementType type, params long[] shape) => new(name, -1, false, (random, _) => new(
        type, shape, new byte[Tensor.SizeOf(type) * shape.Aggregate(1L, (product, dimension) => product * dimension)]));
}
