using OrtBatchInvariant.Models.Onnx;
using static OrtBatchInvariant.Conversion.Tests.Support.Graphs;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Conversion.Tests.Support;

/// <summary>Models that several tests use.</summary>
internal static class Samples
{
    internal const int Width = 48;

    /// <summary>
    /// A block as exporters write it that fuse nothing: the norm from its parts, attention from two products and a softmax, and a product
    /// with a quantised weight.
    /// </summary>
    internal static ModelProto Unfused()
    {
        var random = new Random(2);
        GraphProto graph = Graph(
            "main",
            [Value("x", DataType.Float, "batch", "tokens", Width)],
            [Value("y", DataType.Float, "batch", "tokens", Width)],
            Node("square", "Mul", ["x", "x"], ["x2"]),
            Node("mean", "ReduceMean", ["x2", "last"], ["m"]),
            Node("shift", "Add", ["m", "epsilon"], ["m2"]),
            Node("root", "Sqrt", ["m2"], ["r"]),
            Node("normal", "Div", ["x", "r"], ["n"]),
            Node("gain", "Mul", ["n", "gamma"], ["g"]),
            Node("q", "MatMul", ["g", "wq"], ["q"]),
            Node("k", "MatMul", ["g", "wk"], ["k"]),
            Node("turn", "Transpose", ["k"], ["kt"], ("perm", new long[] { 0, 2, 1 })),
            Node("scores", "MatMul", ["q", "kt"], ["s"]),
            Node("scale", "Mul", ["s", "factor"], ["s2"]),
            Node("softmax", "Softmax", ["s2"], ["p"], ("axis", -1)),
            Node("values", "MatMul", ["p", "g"], ["v"]),
            Node("weight", "DequantizeLinear", ["w8", "w8_scale", "w8_zero"], ["w"], ("axis", 1)),
            Node("out", "MatMul", ["v", "w"], ["o"]),
            Node("residual", "Add", ["o", "x"], ["y"]));
        graph.Initializer.AddRange(
        [
            Longs("last", [1], -1), Floats("epsilon", [1], 1e-6f), RandomFloats("gamma", random, Width), Floats("factor", [1], 0.25f),
            RandomFloats("wq", random, Width, Width), RandomFloats("wk", random, Width, Width), RandomFloats("w8_scale", random, Width),
            new TensorProto { Name = "w8", DataType = (int)DataType.Uint8, Dims = { Width, Width }, RawData = Google.Protobuf.ByteString.CopyFrom(Bytes(random)) },
            new TensorProto { Name = "w8_zero", DataType = (int)DataType.Uint8, Dims = { Width }, RawData = Google.Protobuf.ByteString.CopyFrom(new byte[Width]) },
        ]);
        return Model(graph);
    }

    private static byte[] Bytes(Random random)
    {
        byte[] bytes = new byte[Width * Width];
        random.NextBytes(bytes);
        return bytes;
    }

    /// <summary>x [rows, 48] through a product, an If with a product in one branch, and a function, called twice, with a product.</summary>
    internal static ModelProto WithSubgraphsAndFunctions(string elseOp = "Softmax")
    {
        var random = new Random(1);
        GraphProto thenBranch = Graph("then", [], [Value("t", DataType.Float, "rows", Width)], Node("inner", "MatMul", ["h", "w2"], ["t"]));
        thenBranch.Initializer.Add(RandomFloats("w2", random, Width, Width));
        GraphProto elseBranch = Graph("else", [], [Value("e", DataType.Float, "rows", Width)], Node("other", elseOp, ["h"], ["e"]));
        GraphProto graph = Graph(
            "main",
            [Value("x", DataType.Float, "rows", Width), Value("flag", DataType.Bool)],
            [Value("y", DataType.Float, "rows", Width)],
            Node("first", "MatMul", ["x", "w1"], ["h"]),
            Node("choose", "If", ["flag"], ["c"], ("then_branch", thenBranch), ("else_branch", elseBranch)),
            Node("call1", "test.local:Block", ["c", "w1"], ["b1"]),
            Node("call2", "test.local:Block", ["b1", "w1"], ["y"]));
        graph.Initializer.Add(RandomFloats("w1", random, Width, Width));
        ModelProto model = Model(graph);
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "test.local", Version = 1 });
        var function = new FunctionProto { Domain = "test.local", Name = "Block" };
        function.Input.AddRange(["a", "b"]);
        function.Output.Add("c");
        function.OpsetImport.Add(new OperatorSetIdProto { Version = 21 });
        function.Node.AddRange([Node("product", "MatMul", ["a", "b"], ["p"]), Node("", "Tanh", ["p"], ["q"]), Node("sum", "Add", ["q", "a"], ["c"])]);
        model.Functions.Add(function);
        return model;
    }
}
