using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>
/// Decoder layers as other tools write them: GPT-2 of ONNX Runtime's optimiser, Phi with two rotary tables behind an If, and opset 23
/// with the standard's own ops. No node is left to a kernel that may vary, and a row's bytes are its own.
/// </summary>
public sealed class ModelTests(ITestOutputHelper output)
{
    private const int Hidden = 128;
    private const int Heads = 4;
    private const int HeadSize = Hidden / Heads;
    private const int Sequence = 6;
    private const int Past = 9;
    private const int Vocabulary = 37;

    private static readonly Dictionary<string, DecoderCase> s_cases = new()
    {
        ["GPT-2"] = Gpt2(),
        ["Phi, short rotary table"] = Phi(longRope: false),
        ["Phi, long rotary table"] = Phi(longRope: true),
        ["opset 23"] = Opset23(),
    };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void IsServedWhollyAndRowsAreTheirOwn(string name)
    {
        DecoderCase model = s_cases[name];
        Random random = Checks.Seeded(output);
        Tensor[] constants = [.. model.Operands.Select(operand => operand.Make(random, 4))];
        byte[] bytes = model.Build(constants);
        using InferenceSession ours = Sessions.Ours(bytes, out CoverageReport report);
        Assert.DoesNotContain(report.Nodes, node => node.ServedBy == ServedBy.StockVarying);
        string[] served = [.. report.Nodes.Where(node => node.ServedBy == ServedBy.BatchInvariant).Select(node => node.Op)];
        output.WriteLine($"{report.Nodes.Count} nodes, batch-invariant: {string.Join(", ", served)}");
        Assert.All(model.Ops, op => Assert.Contains(op, served));

        using InferenceSession stock = Sessions.Stock(bytes);
        Tensor[] actual = Sessions.Run(ours, model.Feeds(constants), model.Outputs);
        var tolerance = new OpCase(name, "") { Tolerance = 2e-5 };
        Checks.Close(Checks.Run(stock, model.Feeds(constants), model.Outputs), actual, tolerance, output);

        foreach (CpuInstructionSet set in Sessions.OtherInstructionSets)
        {
            using InferenceSession other = Sessions.Ours(bytes, out _, instructionSet: set);
            Checks.Same(actual, Sessions.Run(other, model.Feeds(constants), model.Outputs)).ExpectNone(output, $"{set} against {report.InstructionSet}");
        }

        var rows = new Comparison();
        Tensor[] row = [.. model.Operands.Zip(constants, (operand, value) => operand.RowAxis < 0 ? value : operand.Make(random, 1))];
        Tensor[] alone = Sessions.Run(ours, model.Feeds(row), model.Outputs);
        foreach (int batch in (int[])[2, 5, 16])
        {
            foreach (int position in (int[])[0, batch - 1])
            {
                Tensor[] values = [.. model.Operands.Zip(row, (operand, value) =>
                {
                    if (operand.RowAxis < 0)
                    {
                        return value;
                    }

                    Tensor all = operand.Make(random, batch);
                    all.Place(operand.RowAxis, position, value);
                    return all;
                })];
                Tensor[] results = Sessions.Run(ours, model.Feeds(values), model.Outputs);
                for (int i = 0; i < results.Length; i++)
                {
                    rows.Add(alone[i], results[i].Slice(model.OutputAxes[i], position, 1));
                }
            }
        }

        rows.ExpectNone(output, "row alone against the row in batches of 2 to 16");
    }

    private static DecoderCase Gpt2() => new(
        17,
        [
            .. Embedding(), Integers("position_ids", random => random.Next(32), Sequence),
            Weight("wpe", 32, Hidden), Norm("ln1"), Norm("ln1_b"), Weight("qkv_w", Hidden, 3 * Hidden), Weight("qkv_b", 3 * Hidden),
            new("mask", 0, false, (random, rows) => Tensor.Of([rows, Past + Sequence], [.. Enumerable.Range(0, rows * (Past + Sequence)).Select(i => i % (Past + Sequence) < 3 ? random.Next(2) : 1)])),
            Rows("past", [2, 1, Heads, Past, HeadSize], axis: 1),
            Weight("o_w", Hidden, Hidden), Weight("o_b", Hidden), Norm("ln2"), Norm("ln2_b"), Weight("up_w", Hidden, 2 * Hidden), Weight("up_b", 2 * Hidden),
            Weight("down_w", 2 * Hidden, Hidden), Weight("down_b", Hidden), Norm("ln3"), Norm("ln3_b"), Weight("head_w", Hidden, Vocabulary), Weight("gelu_b", Vocabulary),
            Constant("flat", Tensor.Of([2], -1L, Hidden)), Constant("back", Tensor.Of([3], -1L, Sequence, Hidden)),
        ],
        [
            Graphs.Node("wte", "Gather", "", ["embedding", "input_ids"], ["e"]),
            Graphs.Node("wpe", "Gather", "", ["wpe", "position_ids"], ["p"]),
            Graphs.Node("add", "Add", "", ["e", "p"], ["h0"]),
            Graphs.Node("ln1", "LayerNormalization", "", ["h0", "ln1", "ln1_b"], ["n1"]),
            Graphs.Node("attention", "Attention", "com.microsoft", ["n1", "qkv_w", "qkv_b", "mask", "past"], ["a", "present"], ("num_heads", Heads), ("unidirectional", 1)),
            Graphs.Node("flatten", "Reshape", "", ["a", "flat"], ["a2"]),
            Graphs.Node("o", "Gemm", "", ["a2", "o_w", "o_b"], ["o2"]),
            Graphs.Node("unflatten", "Reshape", "", ["o2", "back"], ["o3"]),
            Graphs.Node("ln2", "SkipLayerNormalization", "com.microsoft", ["o3", "h0", "ln2", "ln2_b"], ["n2", "", "", "h1"]),
            Graphs.Node("up", "MatMul", "", ["n2", "up_w"], ["u"]),
            Graphs.Node("gelu", "FastGelu", "com.microsoft", ["u", "up_b"], ["g"]),
            Graphs.Node("down", "MatMul", "", ["g", "down_w"], ["d"]),
            Graphs.Node("ln3", "SkipLayerNormalization", "com.microsoft", ["h1", "d", "ln3", "ln3_b", "down_b"], ["n3"]),
            Graphs.Node("head", "MatMul", "", ["n3", "head_w"], ["l"]),
            Graphs.Node("bias_gelu", "BiasGelu", "com.microsoft", ["l", "gelu_b"], ["logits"]),
        ],
        ["logits", "present"],
        [0, 1],
        ["LayerNormalization", "Attention", "Gemm", "SkipLayerNormalization", "MatMul", "FastGelu", "BiasGelu"]);

    private static DecoderCase Phi(bool longRope)
    {
        const int Rotary = 16;
        var condition = new NodeProto { Name = "rope", OpType = "If", Input = { "is_long" }, Output = { "cos", "sin" } };
        foreach ((string branch, string table) in new[] { ("then_branch", "long"), ("else_branch", "short") })
        {
            var graph = new GraphProto { Name = branch };
            foreach (string half in new[] { "cos", "sin" })
            {
                graph.Node.Add(Graphs.Node($"{table}_{half}_copy", "Identity", "", [$"{half}_{table}"], [$"{half}_{table}_out"]));
                graph.Output.Add(Graphs.Value($"{half}_{table}_out", TensorElementType.Float));
            }

            condition.Attribute.Add(OnnxAttribute.Of(branch, graph));
        }

        return new(
            17,
            [
                .. Embedding(), Norm("ln1"), Norm("ln1_b"), Weight("q_w", Hidden, Hidden), Weight("k_w", Hidden, Hidden / 2), Weight("v_w", Hidden, Hidden / 2), Weight("q_b", Hidden),
                Rows("past_key", [1, Heads / 2, Past, HeadSize]) with { IsAnyShape = true }, Rows("past_value", [1, Heads / 2, Past, HeadSize]) with { IsAnyShape = true },
                new("seqlens_k", 0, false, (_, rows) => Tensor.Of([rows], [.. Enumerable.Repeat(Past, rows)])),
                Given("total", Tensor.Of([1], Past + 1)), Given("threshold", Tensor.Of([1], longRope ? Past : Past + 5)),
                Weight("cos_long", 64, Rotary / 2), Weight("sin_long", 64, Rotary / 2), Weight("cos_short", 32, Rotary / 2), Weight("sin_short", 32, Rotary / 2),
                Weight("o_w", Hidden, Hidden), Norm("ln2"), Norm("ln2_b"), Weight("up_w", Hidden, 2 * Hidden), Weight("up_b", 2 * Hidden), Weight("down_w", 2 * Hidden, Hidden), Weight("head_w", Hidden, Vocabulary),
            ],
            [
                Graphs.Node("long", "Greater", "", ["total", "threshold"], ["is_long"]),
                condition,
                Graphs.Node("wte", "Gather", "", ["embedding", "input_ids"], ["h0"]),
                Graphs.Node("ln1", "LayerNormalization", "", ["h0", "ln1", "ln1_b"], ["n1"]),
                Graphs.Node("q", "MatMul", "", ["n1", "q_w"], ["q1"]),
                Graphs.Node("q_bias", "Add", "", ["q1", "q_b"], ["q2"]),
                Graphs.Node("k", "MatMul", "", ["n1", "k_w"], ["k1"]),
                Graphs.Node("v", "MatMul", "", ["n1", "v_w"], ["v1"]),
                Graphs.Node(
                    "attention", "GroupQueryAttention", "com.microsoft", ["q2", "k1", "v1", "past_key", "past_value", "seqlens_k", "total", "cos", "sin"],
                    ["a", "present_key", "present_value"], ("num_heads", Heads), ("kv_num_heads", Heads / 2), ("do_rotary", 1)),
                Graphs.Node("o", "MatMul", "", ["a", "o_w"], ["o1"]),
                Graphs.Node("h1", "Add", "", ["h0", "o1"], ["h1"]),
                Graphs.Node("ln2", "LayerNormalization", "", ["h1", "ln2", "ln2_b"], ["n2"]),
                Graphs.Node("up", "MatMul", "", ["n2", "up_w"], ["u"]),
                Graphs.Node("gelu", "FastGelu", "com.microsoft", ["u", "up_b"], ["g"]),
                Graphs.Node("down", "MatMul", "", ["g", "down_w"], ["d"]),
                Graphs.Node("h2", "Add", "", ["h1", "d"], ["h2"]),
                Graphs.Node("head", "MatMul", "", ["h2", "head_w"], ["logits"]),
            ],
            ["logits", "present_key", "present_value"],
            [0, 0, 0],
            ["LayerNormalization", "GroupQueryAttention", "MatMul", "FastGelu"])
        {
            Tokens = 1,
        };
    }

    private static DecoderCase Opset23() => new(
        23,
        [
            .. Embedding(), Integers("position_ids", random => random.Next(64), Sequence), Norm("n1_w"), Weight("q_w", Hidden, Hidden), Weight("k_w", Hidden, Hidden / 2), Weight("v_w", Hidden, Hidden / 2),
            Weight("cos", 64, HeadSize / 2), Weight("sin", 64, HeadSize / 2), Rows("past_key", [1, Heads / 2, Past, HeadSize]), Rows("past_value", [1, Heads / 2, Past, HeadSize]),
            Weight("o_w", Hidden, Hidden), Norm("n2_w"), Weight("gate_w", Hidden, 2 * Hidden), Weight("up_w", Hidden, 2 * Hidden), Weight("down_w", 2 * Hidden, Hidden), Weight("head_w", Hidden, Vocabulary),
        ],
        [
            Graphs.Node("wte", "Gather", "", ["embedding", "input_ids"], ["h0"]),
            Graphs.Node("n1", "RMSNormalization", "", ["h0", "n1_w"], ["n1"]),
            Graphs.Node("q", "MatMul", "", ["n1", "q_w"], ["q1"]),
            Graphs.Node("k", "MatMul", "", ["n1", "k_w"], ["k1"]),
            Graphs.Node("v", "MatMul", "", ["n1", "v_w"], ["v1"]),
            Graphs.Node("rope_q", "RotaryEmbedding", "", ["q1", "cos", "sin", "position_ids"], ["q2"], ("num_heads", Heads)),
            Graphs.Node("rope_k", "RotaryEmbedding", "", ["k1", "cos", "sin", "position_ids"], ["k2"], ("num_heads", Heads / 2)),
            Graphs.Node(
                "attention", "Attention", "", ["q2", "k2", "v1", "", "past_key", "past_value"], ["a", "present_key", "present_value"],
                ("is_causal", 1), ("q_num_heads", Heads), ("kv_num_heads", Heads / 2)),
            Graphs.Node("o", "MatMul", "", ["a", "o_w"], ["o1"]),
            Graphs.Node("h1", "Add", "", ["h0", "o1"], ["h1"]),
            Graphs.Node("n2", "RMSNormalization", "", ["h1", "n2_w"], ["n2"]),
            Graphs.Node("gate", "MatMul", "", ["n2", "gate_w"], ["g1"]),
            Graphs.Node("up", "MatMul", "", ["n2", "up_w"], ["u1"]),
            Graphs.Node("sigmoid", "Sigmoid", "", ["g1"], ["s1"]),
            Graphs.Node("silu", "Mul", "", ["g1", "s1"], ["g2"]),
            Graphs.Node("gated", "Mul", "", ["g2", "u1"], ["u2"]),
            Graphs.Node("down", "MatMul", "", ["u2", "down_w"], ["d"]),
            Graphs.Node("h2", "Add", "", ["h1", "d"], ["h2"]),
            Graphs.Node("head", "MatMul", "", ["h2", "head_w"], ["logits"]),
        ],
        ["logits", "present_key", "present_value"],
        [0, 0, 0],
        ["RMSNormalization", "RotaryEmbedding", "Attention", "MatMul"]);

    private static Operand[] Embedding() => [Integers("input_ids", random => random.Next(Vocabulary), Sequence), Weight("embedding", Vocabulary, Hidden)];

    private static Operand Integers(string name, Func<Random, int> value, int count) =>
        EachRow(name, random => Tensor.Of([1, count], [.. Enumerable.Range(0, count).Select(_ => (long)value(random))]));

    private static Operand Norm(string name) => Weight(name, Hidden);

    private sealed record DecoderCase(int Opset, Operand[] All, NodeProto[] Nodes, string[] Outputs, int[] OutputAxes, string[] Ops)
    {
        /// <summary>New tokens of a row.</summary>
        internal int Tokens { get; init; } = Sequence;

        internal Operand[] Operands =>
            [.. All.Select(operand => operand.Name == "input_ids" ? Integers("input_ids", random => random.Next(Vocabulary), Tokens) : operand)];

        internal (string, Tensor)[] Feeds(Tensor[] values) =>
            [.. Operands.Zip(values).Where(pair => !pair.First.IsConstant).Select(pair => (pair.First.Name, pair.Second))];

        internal byte[] Build(Tensor[] values)
        {
            var graph = new GraphProto { Name = "decoder" };
            graph.Node.AddRange(Nodes);
            foreach ((Operand operand, Tensor value) in Operands.Zip(values))
            {
                if (operand.IsConstant)
                {
                    graph.Initializer.Add(Graphs.Initializer(operand.Name, value));
                }
                else
                {
                    graph.Input.Add(Graphs.Value(operand.Name, value, axis => operand.IsAnyShape || axis == operand.RowAxis));
                }
            }

            graph.Output.AddRange(Outputs.Select(name => Graphs.Value(name, TensorElementType.Float)));
            return Graphs.Model(graph, Opset);
        }
    }
}
