using OrtBatchInvariant.Models.Onnx;
using static OrtBatchInvariant.Conversion.Tests.Support.Graphs;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Conversion.Tests.Support;

/// <summary>Models that several tests use.</summary>
internal static class Samples
{
    internal const int Width = 48;

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
