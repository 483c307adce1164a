using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using OrtBatchInvariant.Models.Onnx;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>
/// Each operator that counts as invariant by nature, on the stock kernels of the CPU: a row alone against the same row in batches. The
/// list comes from the library itself, so that an entry without a case fails.
/// </summary>
public sealed class InvariantOperatorTests(ITestOutputHelper output)
{
    // A width that leaves a tail after any vector length.
    private const int Width = 61;

    private static readonly Operand s_x = Rows("x", [1, 5, Width]);
    private static readonly Operand s_x2 = Rows("x2", [1, 5, Width]);

    private static readonly Dictionary<string, Case[]> s_cases = new()
    {
        ["Abs"] = [Unary("Abs")],
        ["Add"] = Binary("Add"),
        ["And"] = [.. Logical("And")],
        ["ArgMax"] = [Unary("ArgMax", type: TensorElementType.Int64, attributes: [("axis", 2)])],
        ["ArgMin"] = [Unary("ArgMin", type: TensorElementType.Int64, attributes: [("axis", -1), ("keepdims", 0)])],
        ["Cast"] =
        [
            Unary("Cast", type: TensorElementType.Float16, attributes: [("to", 10)]), Unary("Cast", type: TensorElementType.Double, attributes: [("to", 11)]),
            Unary("Cast", type: TensorElementType.Int32, attributes: [("to", 6)]),
            new(new OpCase("Cast", "", Halves("x")) { Attributes = [("to", 1)] }),
        ],
        ["CastLike"] = [new(new OpCase("CastLike", "", s_x, Given("like", Tensor.Of([1], (Half)0))) { Outputs = [new("y", 0, TensorElementType.Float16)] })],
        ["Ceil"] = [Unary("Ceil")],
        ["Clip"] = [new(new OpCase("Clip", "", s_x, Given("low", Tensor.Of([], -0.5f)), Given("high", Tensor.Of([], 0.25f))))],
        ["Compress"] = [new(new OpCase("Compress", "", s_x, Given("keep", Tensor.Of([5], true, false, true, true, false))) { Attributes = [("axis", 1)] })],
        ["Concat"] = [new(new OpCase("Concat", "", s_x, s_x2) { Attributes = [("axis", 2)] })],
        ["ConcatFromSequence"] = [Graph("ConcatFromSequence", [s_x, s_x2], Made("SequenceConstruct", ["x", "x2"], "s"), Made("ConcatFromSequence", ["s"], "y", ("axis", 1)))],
        ["Constant"] = [Graph("Constant", [s_x], Made("Constant", [], "c", ("value_floats", new[] { 0.1f, 0.7f })), Made("Gather", ["c", "one"], "g"), Made("Mul", ["x", "g"], "y"))],
        ["ConstantOfShape"] = [Graph("ConstantOfShape", [s_x], Made("Shape", ["x"], "shape"), Made("ConstantOfShape", ["shape"], "y", ("value", Value(0.7f))))],
        ["DepthToSpace"] = [new(new OpCase("DepthToSpace", "", Rows("x", [1, 8, 3, 5])) { Attributes = [("blocksize", 2)] })],
        ["DequantizeLinear"] = [.. Dequantize("")],
        ["Div"] = Binary("Div"),
        ["Dropout"] = [Unary("Dropout")],
        ["Equal"] = Binary("Equal", TensorElementType.Bool),
        ["Expand"] = [new(new OpCase("Expand", "", Rows("x", [1, 1, Width]), Given("shape", Tensor.Of<long>([3], 1, 5, 1))))],
        ["EyeLike"] = [new(new OpCase("EyeLike", "", Rows("x", [1, 40])) { Attributes = [("k", 0)] }, Row: static (y, position, _) => Expect(y.Slice(0, position, 1), i => i == position ? 1 : 0))],
        ["Flatten"] = [Unary("Flatten")],
        ["Floor"] = [Unary("Floor")],
        ["Gather"] =
        [
            new(new OpCase("Gather", "", s_x, Given("i", Tensor.Of<long>([3], 4, 0, -2))) { Attributes = [("axis", 1)] }),
            new(new OpCase("Gather", "", Weight("table", 50, Width), Longs("i", 50, 7))),
        ],
        ["GatherElements"] = [new(new OpCase("GatherElements", "", s_x, Longs("i", Width, 5, 9)) { Attributes = [("axis", 2)] })],
        ["GatherND"] = [new(new OpCase("GatherND", "", s_x, Longs("i", 5, 4, 1)) { Attributes = [("batch_dims", 1)] })],
        ["Greater"] = Binary("Greater", TensorElementType.Bool),
        ["GreaterOrEqual"] = Binary("GreaterOrEqual", TensorElementType.Bool),
        ["Identity"] = [Unary("Identity")],
        ["If"] = [Graph("If", [s_x, Given("flag", Tensor.Of([], true))], Made("If", ["flag"], "y", ("then_branch", Branch("Neg")), ("else_branch", Branch("Abs"))))],
        ["IsInf"] = [Unary("IsInf", type: TensorElementType.Bool)],
        ["IsNaN"] = [Unary("IsNaN", type: TensorElementType.Bool)],
        ["Less"] = Binary("Less", TensorElementType.Bool),
        ["LessOrEqual"] = Binary("LessOrEqual", TensorElementType.Bool),
        ["Loop"] = [Graph("Loop", [s_x, Given("n", Tensor.Of([], 3L)), Given("go", Tensor.Of([], true))], Made("Loop", ["n", "go", "x"], "y", ("body", LoopBody())))],
        ["Max"] = Binary("Max"),
        ["Min"] = Binary("Min"),
        ["Mul"] = Binary("Mul"),
        ["Neg"] = [Unary("Neg")],
        ["NonZero"] = [new(new OpCase("NonZero", "", Bools("x")) { Outputs = [new("y", 0, TensorElementType.Int64)] }, Row: static (y, position, _) => ColumnsOf(y, position))],
        ["Not"] = [new(new OpCase("Not", "", Bools("x")) { Outputs = [new("y", 0, TensorElementType.Bool)] })],
        ["OneHot"] = [new(new OpCase("OneHot", "", Longs("i", 9, 5), Given("depth", Tensor.Of([], 9L)), Given("values", Tensor.Of([2], 0.25f, 0.75f))))],
        ["Or"] = [.. Logical("Or")],
        ["Pad"] = [new(new OpCase("Pad", "", s_x, Given("pads", Tensor.Of<long>([6], 0, 1, 2, 0, 0, 3)), Given("value", Tensor.Of([], 0.5f))))],
        ["QuantizeLinear"] = [.. Quantize("")],
        ["Range"] =
        [
            Graph(
                "Range", [s_x, Given("start", Tensor.Of([], 0.3f)), Given("step", Tensor.Of([], 0.1f))],
                Made("Shape", ["x"], "shape"), Made("Gather", ["shape", "zero"], "n"), Made("Cast", ["n"], "end", ("to", 1)), Made("Range", ["start", "end", "step"], "y"))
                with { Row = static (y, _, _) => y.Slice(0, 0, 7) },
        ],
        ["Reciprocal"] = [Unary("Reciprocal")],
        ["Relu"] = [Unary("Relu")],
        ["Reshape"] = [new(new OpCase("Reshape", "", s_x, Given("shape", Tensor.Of<long>([3], 0, Width, 5))))],
        ["Round"] = [Unary("Round")],
        ["Scan"] = [Graph("Scan", [s_x, Shared("steps", 4, Width)], Made("Scan", ["x", "steps"], "y", ("body", ScanBody()), ("num_scan_inputs", 1)))],
        ["ScatterElements"] =
        [
            Scatter("none"), Scatter("add"), Scatter("mul"), Scatter("max"),
        ],
        ["ScatterND"] = [ScatterNd("none"), ScatterNd("add"), ScatterNd("mul")],
        ["SequenceAt"] = [Graph("SequenceAt", [s_x, s_x2], Made("SequenceConstruct", ["x", "x2"], "s"), Made("SequenceAt", ["s", "one"], "y"))],
        ["SequenceConstruct"] = [Graph("SequenceConstruct", [s_x, s_x2], Made("SequenceConstruct", ["x2", "x"], "s"), Made("SequenceAt", ["s", "one"], "y"))],
        ["SequenceInsert"] = [Graph("SequenceInsert", [s_x, s_x2], Made("SequenceConstruct", ["x"], "s"), Made("SequenceInsert", ["s", "x2"], "t"), Made("SequenceAt", ["t", "one"], "y"))],
        ["Shape"] = [new(new OpCase("Shape", "", s_x) { Attributes = [("start", 1)], Outputs = [new("y", 0, TensorElementType.Int64)] }, Row: static (y, _, _) => y)],
        ["Sign"] = [Unary("Sign")],
        ["Size"] = [new(new OpCase("Size", "", s_x) { Outputs = [new("y", 0, TensorElementType.Int64)] }, Row: static (y, _, rows) => Tensor.Of([1], y.As<long>()[0] / rows))],
        ["Slice"] = [new(new OpCase("Slice", "", s_x, Given("from", Tensor.Of<long>([2], 1, 50)), Given("to", Tensor.Of<long>([2], 5, 3)), Given("axes", Tensor.Of<long>([2], 1, 2)), Given("steps", Tensor.Of<long>([2], 2, -3))))],
        ["SpaceToDepth"] = [new(new OpCase("SpaceToDepth", "", Rows("x", [1, 3, 4, 6])) { Attributes = [("blocksize", 2)] })],
        ["Split"] = [new(new OpCase("Split", "", s_x, Given("parts", Tensor.Of<long>([2], 20, 41))) { Attributes = [("axis", 2)], Outputs = [new("y"), new("z")] })],
        ["SplitToSequence"] = [Graph("SplitToSequence", [s_x], Made("SplitToSequence", ["x"], "s", ("axis", 1)), Made("SequenceAt", ["s", "one"], "y"))],
        ["Sqrt"] = [Unary("Sqrt", amplitude: 4)],
        ["Squeeze"] = [new(new OpCase("Squeeze", "", Rows("x", [1, 1, Width]), Given("axes", Tensor.Of<long>([1], 1))))],
        ["Sub"] = Binary("Sub"),
        ["TensorScatter"] =
        [
            new(new OpCase("TensorScatter", "", Rows("x", [1, 2, 9, 13]), Rows("update", [1, 2, 3, 13]), EachRow("at", random => Tensor.Of([1], (long)random.Next(7)))) { Opset = 24 }),
        ],
        ["Tile"] = [new(new OpCase("Tile", "", s_x, Given("times", Tensor.Of<long>([3], 1, 2, 3))))],
        ["TopK"] = [new(new OpCase("TopK", "", s_x, Given("k", Tensor.Of([1], 7L))) { Outputs = [new("y"), new("z", 0, TensorElementType.Int64)] })],
        ["Transpose"] = [Unary("Transpose", attributes: [("perm", new long[] { 0, 2, 1 })])],
        ["Trilu"] = [Unary("Trilu", attributes: [("upper", 0)])],
        ["Unsqueeze"] = [new(new OpCase("Unsqueeze", "", s_x, Given("axes", Tensor.Of<long>([1], 2))))],
        ["Where"] = [new(new OpCase("Where", "", Bools("c"), s_x, Shared("other", 5, Width))), new(new OpCase("Where", "", Bools("c"), s_x, s_x2))],
        ["Xor"] = [.. Logical("Xor")],
        ["com.microsoft.GatherBlockQuantized"] =
        [
            new(new OpCase(
                "GatherBlockQuantized", "", Constant("table", Bytes(50, 32)), Longs("i", 50, 7), Weight("scales", 50, 2), Constant("zeros", Bytes(50, 1)))
            {
                Domain = "com.microsoft",
                Attributes = [("bits", 4), ("block_size", 32), ("gather_axis", 0), ("quantize_axis", 1)],
            }),
        ],
        ["com.microsoft.DequantizeLinear"] = [.. Dequantize("com.microsoft")],
        ["com.microsoft.QuantizeLinear"] = [.. Quantize("com.microsoft")],
    };

    public static TheoryData<string> Listed =>
        [.. BatchInvariantProvider.InvariantOperators.Where(op => !op.Internal).Select(Key)];

    [Theory]
    [MemberData(nameof(Listed))]
    public void StockKernelGivesARowTheSameBytes(string op)
    {
        Assert.True(s_cases.TryGetValue(op, out Case[]? cases), $"{op} counts as invariant by nature, but no case here shows it.");
        Random random = Checks.Seeded(output);
        foreach ((int index, Case each) in cases.Index())
        {
            Compare(each, random).ExpectNone(output, $"{op}, case {index + 1} of {cases.Length}");
        }
    }

    /// <summary>No case stands for what is not on the list.</summary>
    [Fact]
    public void EveryCaseIsOfTheList()
    {
        Assert.Empty(s_cases.Keys.Except(BatchInvariantProvider.InvariantOperators.Select(Key)));
        // Copies between devices, which no model file holds: their bytes are tested where there is a device.
        Assert.Equal(["MemcpyFromHost", "MemcpyToHost"], BatchInvariantProvider.InvariantOperators.Where(op => op.Internal).Select(op => op.Op));
    }

    /// <summary>The comparison above can fail: this stock kernel does vary.</summary>
    [Fact]
    public void StockMatMulIsFoundToVary() =>
        Compare(new(new OpCase("MatMul", "", Rows("x", [1, 512]), Shared("w", 512, 96))), Checks.Seeded(output)).ExpectSome(output, "stock MatMul");

    /// <summary>An operator on no list counts as varying, unless all its values are whole numbers.</summary>
    [Theory]
    [InlineData(TensorElementType.Float, ServedBy.StockVarying)]
    [InlineData(TensorElementType.Int64, ServedBy.StockInvariant)]
    public void OperatorOnNoListVaries(TensorElementType type, ServedBy expected)
    {
        var graph = new GraphProto { Name = "one node" };
        graph.Node.Add(Graphs.Node("node", "CumSum", "", ["x", "axis"], ["y"]));
        graph.Input.AddRange([Graphs.Value("x", type), Graphs.Value("axis", TensorElementType.Int64)]);
        graph.Output.Add(Graphs.Value("y", type));
        using var options = new SessionOptions();
        options.AppendBatchInvariant(new BatchInvariantOptions { Strict = false });
        using var session = new InferenceSession(Graphs.Model(graph, 21), options);
        Assert.Equal(expected, Assert.Single(CoverageReport.ForSession(options).Nodes).ServedBy);
    }

    private static string Key(InvariantOperator op) => op.Domain.Length > 0 ? $"{op.Domain}.{op.Op}" : op.Op;

    private static Comparison Compare(Case each, Random random)
    {
        OpCase op = each.Op;
        Tensor[] row = op.Values(random, 1);
        ModelProto model = ModelProto.Parser.ParseFrom(op.Model(row));
        each.Change?.Invoke(model.Graph);
        using InferenceSession session = Sessions.Stock(model.ToByteArray());
        Tensor[] alone = Checks.Run(session, op.Feeds(row), op.OutputNames);
        Operand[] operands = [.. op.Present];
        Result[] outputs = [.. op.Outputs.OfType<Result>()];
        var comparison = new Comparison();
        foreach (int rows in Checks.Batches)
        {
            foreach (int position in (int[])[0, rows / 2, rows - 1])
            {
                Tensor[] batch = [.. operands.Select((operand, i) => operand.RowAxis < 0 ? row[i] : Checks.InBatch(operand, row[i], random, rows, position, hostile: true))];
                Tensor[] results = Checks.Run(session, op.Feeds(batch), op.OutputNames);
                for (int i = 0; i < outputs.Length; i++)
                {
                    comparison.Add(each.Row?.Invoke(alone[i], 0, 1) ?? alone[i], each.Row?.Invoke(results[i], position, rows) ?? results[i].Slice(0, position * alone[i].Shape[0], alone[i].Shape[0]));
                }
            }
        }

        return comparison;
    }

    private static Case Unary(
        string op, TensorElementType type = TensorElementType.Float, float amplitude = 3, params (string, object)[] attributes) =>
        new(new OpCase(op, "", Rows("x", [1, 5, Width], amplitude: amplitude)) { Attributes = attributes, Outputs = [new("y", 0, type)] });

    /// <summary>Row by row; by a vector, a scalar and a column; and one element a row, which alone is a scalar too.</summary>
    private static Case[] Binary(string op, TensorElementType type = TensorElementType.Float)
    {
        Operand[][] inputs =
        [
            [s_x, s_x2], [s_x, Shared("v", Width)], [Shared("v", Width), s_x], [s_x, Shared("v", 1)], [s_x, Rows("v", [1, 5, 1])],
            [Rows("x", [1, 1]), Shared("v", 1)], [Rows("x", [1, 1]), Shared("v", Width)], [Rows("x", [1, 1, Width]), Shared("v", 5, 1)],
        ];
        return [.. inputs.Select(pair => new Case(new OpCase(op, "", pair) { Outputs = [new("y", 0, type)] }))];
    }

    private static IEnumerable<Case> Logical(string op) =>
        [new(new OpCase(op, "", Bools("x"), Bools("x2")) { Outputs = [new("y", 0, TensorElementType.Bool)] })];

    private static IEnumerable<Case> Quantize(string domain) =>
        ((Tensor Scale, Tensor Zero, int Axis)[])
        [
            (Tensor.Of([], 0.013f), Tensor.Of([], (byte)117), 1), (Tensor.Of([5], 0.01f, 0.02f, 0.03f, 0.011f, 0.5f), Tensor.Of<byte>([5], 1, 2, 100, 200, 255), 1),
        ]
        switch
        {
            var kinds => kinds.Select(kind => new Case(new OpCase("QuantizeLinear", "", s_x, Constant("scale", kind.Scale), Constant("zero", kind.Zero))
            {
                Domain = domain,
                Attributes = [("axis", kind.Axis)],
                Outputs = [new("y", 0, TensorElementType.UInt8)],
            })),
        };

    private static IEnumerable<Case> Dequantize(string domain) =>
        ((Tensor Scale, Tensor Zero)[])
        [
            (Tensor.Of([], 0.013f), Tensor.Of([], (byte)117)), (Tensor.Of([5], 0.01f, 0.02f, 0.03f, 0.011f, 0.5f), Tensor.Of<byte>([5], 1, 2, 100, 200, 255)),
        ]
        switch
        {
            var kinds => kinds.Select(kind => new Case(new OpCase(
                "DequantizeLinear", "", EachRow("x", random => new Tensor(TensorElementType.UInt8, [1, 5, Width], RandomBytes(random, 5 * Width))), Constant("scale", kind.Scale), Constant("zero", kind.Zero))
            {
                Domain = domain,
                Attributes = [("axis", 1)],
            })),
        };

    private static Case Scatter(string reduction) => new(new OpCase(
        "ScatterElements", "", s_x, Longs("i", 5, 9, Width), Rows("u", [1, 9, Width])) { Attributes = [("axis", 1), ("reduction", reduction)] });

    /// <summary>Updates of each row at indices of its own, several at one place; a batch has more updates, in another order.</summary>
    private static Case ScatterNd(string reduction) => Graph(
        "ScatterND",
        [Rows("x", [1, 7]), EachRow("i", random => Tensor.Of([1, 12], [.. Enumerable.Range(0, 12).Select(_ => (long)random.Next(reduction == "none" ? 1 : 7))])), Rows("u", [1, 12])],
        Made("Shape", ["x"], "shape"), Made("Gather", ["shape", "zero"], "n"), Made("Range", ["zero", "n", "one"], "r"), Made("Unsqueeze", ["r", "last"], "r2"),
        Made("Shape", ["i"], "i_shape"), Made("Expand", ["r2", "i_shape"], "r3"), Made("Unsqueeze", ["r3", "last"], "r4"), Made("Unsqueeze", ["i", "last"], "i2"),
        Made("Concat", ["r4", "i2"], "at", ("axis", -1)), Made("ScatterND", ["x", "at", "u"], "y", ("reduction", reduction)));

    private static Case Graph(string op, Operand[] inputs, params NodeProto[] nodes) => new(new OpCase(op, "", inputs), Change: graph =>
    {
        graph.Node.Clear();
        graph.Node.AddRange(nodes.Select(node => node.Clone()));
        graph.Initializer.Add(Graphs.Initializer("zero", Tensor.Of([], 0L)));
        graph.Initializer.Add(Graphs.Initializer("one", Tensor.Of([], 1L)));
        graph.Initializer.Add(Graphs.Initializer("last", Tensor.Of([1], -1L)));
    });

    private static NodeProto Made(string op, string[] inputs, string output, params (string Name, object Value)[] attributes) =>
        Graphs.Node(output, op, "", inputs, [output], attributes);

    private static TensorProto Value(float value) => Graphs.Initializer("", Tensor.Of([1], value));

    private static GraphProto Branch(string op)
    {
        var graph = new GraphProto { Name = op };
        graph.Node.Add(Graphs.Node(op, op, "", ["x"], [$"{op}_y"]));
        graph.Output.Add(Graphs.Value($"{op}_y", TensorElementType.Float));
        return graph;
    }

    private static GraphProto LoopBody()
    {
        var graph = new GraphProto { Name = "body" };
        graph.Input.AddRange([Graphs.Value("i", Tensor.Of([], 0L), _ => false), Graphs.Value("go_in", Tensor.Of([], true), _ => false), Graphs.Value("state", TensorElementType.Float)]);
        graph.Node.AddRange([Graphs.Node("on", "Identity", "", ["go_in"], ["go_out"]), Graphs.Node("twice", "Mul", "", ["state", "x"], ["state_out"])]);
        graph.Output.AddRange([Graphs.Value("go_out", TensorElementType.Bool), Graphs.Value("state_out", TensorElementType.Float)]);
        return graph;
    }

    private static GraphProto ScanBody()
    {
        var graph = new GraphProto { Name = "body" };
        graph.Input.AddRange([Graphs.Value("state", TensorElementType.Float), Graphs.Value("step", TensorElementType.Float)]);
        graph.Node.Add(Graphs.Node("sum", "Add", "", ["state", "step"], ["state_out"]));
        graph.Output.Add(Graphs.Value("state_out", TensorElementType.Float));
        return graph;
    }

    private static Operand Longs(string name, int limit, params long[] shape) => EachRow(name, random => Tensor.Of(
        [1, .. shape], [.. Enumerable.Range(0, (int)shape.Aggregate(1L, (a, b) => a * b)).Select(_ => (long)random.Next(limit))]));

    private static Operand Bools(string name) =>
        EachRow(name, random => Tensor.Of([1, 5, Width], [.. Enumerable.Range(0, 5 * Width).Select(_ => random.Next(2) == 1)]));

    private static Operand Halves(string name) =>
        EachRow(name, random => Tensor.Of([1, 5, Width], [.. Enumerable.Range(0, 5 * Width).Select(_ => (Half)random.NextDouble())]));

    private static Tensor Bytes(params long[] shape) => new(TensorElementType.UInt8, shape, RandomBytes(new Random(5), (int)shape.Aggregate(1L, (a, b) => a * b)));

    private static byte[] RandomBytes(Random random, int count)
    {
        byte[] bytes = new byte[count];
        random.NextBytes(bytes);
        return bytes;
    }

    private static Tensor Expect(Tensor actual, Func<int, float> value)
    {
        ReadOnlySpan<float> values = actual.As<float>();
        for (int i = 0; i < values.Length; i++)
        {
            Assert.Equal(value(i), values[i]);
        }

        return Tensor.Of([1], 1L);
    }

    /// <summary>Of the indices that NonZero gives, those in one row, without the row's own.</summary>
    private static Tensor ColumnsOf(Tensor indices, int row)
    {
        long[] all = indices.As<long>().ToArray();
        int count = (int)indices.Shape[1];
        int[] columns = [.. Enumerable.Range(0, count).Where(column => all[column] == row)];
        return Tensor.Of([indices.Shape[0] - 1, columns.Length], [.. Enumerable.Range(1, (int)indices.Shape[0] - 1).SelectMany(axis => columns.Select(column => all[(axis * count) + column]))]);
    }

    /// <param name="Op">The node and its inputs and outputs.</param>
    /// <param name="Change">Makes another graph of it.</param>
    /// <param name="Row">What belongs to a row, from an output, the row's position and the number of rows; null for a slice of axis 0.</param>
    private sealed record Case(OpCase Op, Action<GraphProto>? Change = null, Func<Tensor, int, int, Tensor>? Row = null);
}
