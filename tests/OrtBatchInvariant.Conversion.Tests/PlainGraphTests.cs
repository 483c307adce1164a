using System.Runtime.InteropServices;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;
using static OrtBatchInvariant.Conversion.Tests.Support.Graphs;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Conversion.Tests;

/// <summary>
/// Decoder blocks as plain exporters write them, nothing fused: RMS and layer norm from Pow, ReduceMean, Sqrt and Div, attention from two
/// products and a Softmax, GELU from Erf, products with dequantised weights. In every op set, in the main graph and inside If, Loop and
/// Scan, each node is rewritten or invariant by nature, and a node that is neither is named.
/// </summary>
public sealed class PlainGraphTests(ITestOutputHelper output) : IDisposable
{
    private const int Width = 32;
    private const int Tokens = 5;
    private const int Rows = 4;
    private static readonly string[] s_places = ["main", "If", "Loop", "Scan"];

    private readonly TemporaryFolder _temporary = new();

    public static TheoryData<int, string> Everywhere
    {
        get
        {
            var cases = new TheoryData<int, string>();
            for (int opset = 13; opset <= 24; opset++)
            {
                Array.ForEach(s_places, place => cases.Add(opset, place));
            }

            return cases;
        }
    }

    public static TheoryData<string, string> OneOpExchanged
    {
        get
        {
            var cases = new TheoryData<string, string>();
            foreach (string name in (string[])["rms_square", "rms_root", "ln_variance", "attention_softmax", "gelu_erf"])
            {
                Array.ForEach(s_places, place => cases.Add(name, place));
            }

            return cases;
        }
    }

    /// <summary>The converted model gives the bytes of the provider on the original as it stands, and a row alone those of the row in a batch.</summary>
    [Theory]
    [MemberData(nameof(Everywhere))]
    public void EveryNodeIsRewrittenOrInvariant(int opset, string place)
    {
        string input = Write(Model(opset, place));
        ConvertResult result = ModelConverter.Convert(input, Path.Combine(_temporary.Path, "out"), new ConvertOptions());
        ConvertedModel converted = Assert.Single(result.Models);
        Assert.Equal(14, converted.ChangedNodes);
        IReadOnlyList<NodeInfo> nodes = GraphInspector.Nodes(OnnxModel.Load(converted.File));
        string[] left = [.. nodes.Where(node => node.Domain.Length == 0).Select(node => node.OpType).Distinct().Order()];
        Assert.All(left, op => Assert.Contains(BatchInvariantProvider.InvariantOperators, known => known.Domain.Length == 0 && known.Op == op));

        using var withProvider = new SessionOptions { GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL };
        withProvider.AppendBatchInvariant();
        using var provider = new InferenceSession(input, withProvider);
        using var withLibrary = new SessionOptions();
        withLibrary.RegisterCustomOpLibraryV2(Path.Combine(result.Folder, "libort_batch_invariant.so"), out _);
        using var custom = new InferenceSession(converted.File, withLibrary);

        // Optimized, the stock graph multiplies with rounded activations.
        using var withStock = new SessionOptions { GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL };
        using var stock = new InferenceSession(input, withStock);

        var random = new Random(opset);
        float[] batch = [.. Enumerable.Range(0, Rows * Tokens * Width).Select(_ => (float)((random.NextDouble() * 2) - 1))];
        float[] together = Run(custom, batch, Rows);
        Assert.Equal(Bits(Run(provider, batch, Rows)), Bits(together));
        int length = Tokens * Width;
        for (int row = 0; row < Rows; row++)
        {
            Assert.Equal(Bits(together[(row * length)..((row + 1) * length)]), Bits(Run(custom, batch[(row * length)..((row + 1) * length)], 1)));
        }

        double difference = together.Zip(Run(stock, batch, Rows)).Max(pair => Math.Abs(pair.First - pair.Second));
        output.WriteLine($"{2 * together.Length} elements compared; {left.Length} operators left; largest difference from stock {difference:E1}");
        Assert.InRange(difference, 0, 1e-4);
    }

    /// <summary>Where one op of a pattern is another, one that varies, it is named with the reason, wherever it stands.</summary>
    [Theory]
    [MemberData(nameof(OneOpExchanged))]
    public void NodeThatIsNeitherIsNamed(string name, string place)
    {
        ModelProto model = Model(21, place);
        NodeProto node = GraphInspector.Nodes(new OnnxModel(model)).Single(info => info.Name == name).Proto;
        (node.OpType, string reason) = node.OpType switch
        {
            "Pow" => ("Sinh", "neither served here nor known to be invariant"),
            "ReduceMean" => ("ReduceProd", "neither served here nor known to be invariant"),
            "Softmax" => ("Hardmax", "neither served here nor known to be invariant"),
            _ => ("Softplus", "neither served here nor known to be invariant"),
        };
        if (node.OpType == "Sinh")
        {
            node.Input.RemoveAt(1);
        }

        string message = Assert.Throws<ModelException>(
            () => ModelConverter.Convert(Write(model), Path.Combine(_temporary.Path, "out"), new ConvertOptions())).Message;
        Assert.Contains($"'{name}' ({node.OpType}: ", message, StringComparison.Ordinal);
        Assert.Contains(reason, message, StringComparison.Ordinal);
    }

    /// <summary>A reduction over axes with another one between them has no kernel of ours.</summary>
    [Theory]
    [InlineData("main")]
    [InlineData("If")]
    [InlineData("Loop")]
    [InlineData("Scan")]
    public void ReductionOverScatteredAxesIsNamed(string place)
    {
        ModelProto model = Model(21, place);
        NodeProto node = GraphInspector.Nodes(new OnnxModel(model)).Single(info => info.Name == "rms_mean").Proto;
        node.Input[1] = "outer";
        string message = Assert.Throws<ModelException>(
            () => ModelConverter.Convert(Write(model), Path.Combine(_temporary.Path, "out"), new ConvertOptions())).Message;
        Assert.Contains("'rms_mean' (ReduceMean: only a reduction over neighbouring axes is served)", message, StringComparison.Ordinal);
    }

    /// <summary>Attention and normalisation of com.microsoft that no kernel of ours does: each is named with the reason.</summary>
    [Theory]
    [InlineData("QAttention")]
    [InlineData("QOrderedAttention")]
    [InlineData("LongformerAttention")]
    [InlineData("DecoderAttention")]
    [InlineData("DecoderMaskedMultiHeadAttention")]
    [InlineData("DecoderMaskedSelfAttention")]
    [InlineData("PackedAttention")]
    [InlineData("PackedMultiHeadAttention")]
    [InlineData("PagedAttention")]
    [InlineData("SparseAttention")]
    [InlineData("LinearAttention")]
    [InlineData("GatedRelativePositionBias")]
    [InlineData("RemovePadding")]
    [InlineData("BeamSearch")]
    [InlineData("GreedySearch")]
    [InlineData("MatMulInteger16")]
    [InlineData("MatMulBnb4")]
    [InlineData("MatMulFpQ4")]
    [InlineData("DynamicQuantizeMatMul")]
    [InlineData("QLinearSoftmax")]
    [InlineData("GroupNorm")]
    [InlineData("BiasSoftmax")]
    public void OtherContribOperatorsAreNotOffered(string op)
    {
        Assert.DoesNotContain(BatchInvariantProvider.InvariantOperators, known => known.Op == op);
        var model = new OnnxModel(Model(21, "main"));
        NodeProto node = GraphInspector.Nodes(model).Single(info => info.Name == "residual").Proto;
        (node.OpType, node.Domain) = (op, "com.microsoft");
        string message = Assert.Throws<ModelException>(
            () => ModelConverter.Convert(Write(model.Proto), Path.Combine(_temporary.Path, "out"), new ConvertOptions())).Message;
        output.WriteLine(message);

        // Inputs that do not fit the op's schema, as here, are ONNX Runtime's to refuse.
        Assert.True(
            message.Contains($"'residual' (com.microsoft.{op}: ", StringComparison.Ordinal) || message.Contains("ONNX Runtime cannot load it", StringComparison.Ordinal), message);
        Assert.False(Directory.Exists(Path.Combine(_temporary.Path, "out")));
    }

    public void Dispose() => _temporary.Dispose();

    private static int[] Bits(float[] values) => MemoryMarshal.Cast<float, int>(values).ToArray();

    private static float[] Run(InferenceSession session, float[] x, int rows)
    {
        using var value = OrtValue.CreateTensorValueFromMemory(x, [rows, Tokens, Width]);
        using var options = new RunOptions();
        using IDisposableReadOnlyCollection<OrtValue> results = session.Run(options, ["x"], [value], ["y"]);
        return results[0].GetTensorDataAsSpan<float>().ToArray();
    }

    private string Write(ModelProto model)
    {
        string path = _temporary.Write("in/model.onnx", model.ToByteArray());
        return path;
    }

    private static ModelProto Model(int opset, string place)
    {
        ValueInfoProto x = Value("x", DataType.Float, "batch", Tokens, Width);
        ValueInfoProto y = Value("y", DataType.Float, "batch", Tokens, Width);
        GraphProto graph;
        switch (place)
        {
            case "If":
                GraphProto then = Graph("then", [], [Value("block_y", DataType.Float, "batch", Tokens, Width)], Block("x", "block_y", opset));
                GraphProto other = Graph("else", [], [Value("other_y", DataType.Float, "batch", Tokens, Width)], Node("pass", "Identity", ["x"], ["other_y"]));
                graph = Graph("main", [x], [y], Node("choose", "If", ["yes"], ["y"], ("then_branch", then), ("else_branch", other)));
                break;
            case "Loop":
                GraphProto body = Graph(
                    "body",
                    [Value("i", DataType.Int64), Value("go_in", DataType.Bool), Value("state", DataType.Float, "batch", Tokens, Width)],
                    [Value("go_out", DataType.Bool), Value("block_y", DataType.Float, "batch", Tokens, Width)],
                    [Node("go_on", "Identity", ["go_in"], ["go_out"]), .. Block("state", "block_y", opset)]);
                graph = Graph("main", [x], [y], Node("repeat", "Loop", ["twice", "yes", "x"], ["y"], ("body", body)));
                break;
            case "Scan":
                GraphProto step = Graph(
                    "step",
                    [Value("state", DataType.Float, "batch", Tokens, Width), Value("slice", DataType.Float, 1)],
                    [Value("block_y", DataType.Float, "batch", Tokens, Width)],
                    [Node("shifted", "Add", ["state", "slice"], ["moved"]), .. Block("moved", "block_y", opset)]);
                graph = Graph("main", [x], [y], Node("scan", "Scan", ["x", "slices"], ["y"], ("body", step), ("num_scan_inputs", 1)));
                break;
            default:
                graph = Graph("main", [x], [y], Block("x", "y", opset));
                break;
        }

        var random = new Random(11);
        graph.Initializer.AddRange(
        [
            Longs("last", [1], -1), Longs("outer", [2], 0, 2), Longs("twice", [], 2), Floats("two", [], 2f), Floats("epsilon", [1], 1e-5f), Floats("half", [1], 0.5f), Floats("one", [1], 1f),
            Floats("root_two", [1], 1.41421356f), Floats("head_root", [1], 5.656854f), RandomFloats("slices", random, 2, 1), RandomFloats("rms_gamma", random, Width),
            RandomFloats("ln_gamma", random, Width), RandomFloats("ln_beta", random, Width), RandomFloats("w_q", random, Width, Width), RandomFloats("w_k", random, Width, Width),
            RandomFloats("w_v", random, Width, Width), Floats("w_out_scale", [Width], [.. Enumerable.Range(1, Width).Select(i => i * 1e-4f)]),
            new TensorProto { Name = "yes", DataType = (int)DataType.Bool, RawData = ByteString.CopyFrom(1) },
            new TensorProto { Name = "w_out_int8", DataType = (int)DataType.Int8, Dims = { Width, Width }, RawData = ByteString.CopyFrom(Bytes(random, Width * Width)) },
        ]);
        return Support.Graphs.Model(graph, opset);
    }

    // 14 of the nodes vary: 2 Pow, 3 ReduceMean, 6 MatMul, Softmax, Tanh and Erf.
    private static NodeProto[] Block(string x, string y, int opset)
    {
        NodeProto Mean(string name, string from, string to) => opset < 18
            ? Node(name, "ReduceMean", [from], [to], ("axes", new long[] { -1 }))
            : Node(name, "ReduceMean", [from, "last"], [to]);
        return
        [
            Node("rms_square", "Pow", [x, "two"], ["rms_x2"]),
            Mean("rms_mean", "rms_x2", "rms_m"),
            Node("rms_shift", "Add", ["rms_m", "epsilon"], ["rms_m2"]),
            Node("rms_root", "Sqrt", ["rms_m2"], ["rms_r"]),
            Node("rms_quotient", "Div", [x, "rms_r"], ["rms_n"]),
            Node("rms_gain", "Mul", ["rms_n", "rms_gamma"], ["n1"]),
            Node("q", "MatMul", ["n1", "w_q"], ["q_out"]),
            Node("k", "MatMul", ["n1", "w_k"], ["k_out"]),
            Node("v", "MatMul", ["n1", "w_v"], ["v_out"]),
            Node("turn", "Transpose", ["k_out"], ["k_turned"], ("perm", new long[] { 0, 2, 1 })),
            Node("attention_scores", "MatMul", ["q_out", "k_turned"], ["scores"]),
            Node("attention_scale", "Div", ["scores", "head_root"], ["scaled"]),
            Node("attention_softmax", "Softmax", ["scaled"], ["probabilities"], ("axis", -1)),
            Node("attention_values", "MatMul", ["probabilities", "v_out"], ["context"]),
            Node("dequantize", "DequantizeLinear", ["w_out_int8", "w_out_scale"], ["w_out"], ("axis", 1)),
            Node("out", "MatMul", ["context", "w_out"], ["out_out"]),
            Node("unit", "Tanh", ["out_out"], ["held"]),
            Node("residual", "Add", ["held", x], ["h"]),
            Mean("ln_mean", "h", "ln_m"),
            Node("ln_center", "Sub", ["h", "ln_m"], ["ln_c"]),
            Node("ln_square", "Pow", ["ln_c", "two"], ["ln_c2"]),
            Mean("ln_variance", "ln_c2", "ln_v"),
            Node("ln_shift", "Add", ["ln_v", "epsilon"], ["ln_v2"]),
            Node("ln_root", "Sqrt", ["ln_v2"], ["ln_r"]),
            Node("ln_quotient", "Div", ["ln_c", "ln_r"], ["ln_n"]),
            Node("ln_gain", "Mul", ["ln_n", "ln_gamma"], ["ln_g"]),
            Node("ln_bias", "Add", ["ln_g", "ln_beta"], ["n2"]),
            Node("gelu_quotient", "Div", ["n2", "root_two"], ["gelu_x"]),
            Node("gelu_erf", "Erf", ["gelu_x"], ["gelu_e"]),
            Node("gelu_one", "Add", ["gelu_e", "one"], ["gelu_1"]),
            Node("gelu_product", "Mul", ["n2", "gelu_1"], ["gelu_p"]),
            Node("gelu_half", "Mul", ["gelu_p", "half"], [y]),
        ];
    }

    private static byte[] Bytes(Random random, int count)
    {
        byte[] bytes = new byte[count];
        random.NextBytes(bytes);
        return bytes;
    }
}
