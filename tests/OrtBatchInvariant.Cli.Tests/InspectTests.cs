using System.Text.Json;
using OrtBatchInvariant.Cli.Tests.Support;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Cli.Tests;

[Collection(nameof(Support.Models))]
public sealed class InspectTests(Support.Models models) : IDisposable
{
    private readonly TemporaryFolder _temporary = new();

    [Fact]
    public async Task DecoderIsCovered()
    {
        ToolResult table = await Tool.Run("inspect", models.Int4);
        Assert.Equal((ExitCode.Success, ""), (table.ExitCode, table.Error));
        Assert.Contains("MatMulNBits", table.Output, StringComparison.Ordinal);
        Assert.Contains("gemm.nbits", table.Output, StringComparison.Ordinal);

        ToolResult result = await Tool.Run("inspect", models.Int4, "--json");
        JsonElement root = JsonDocument.Parse(result.Output).RootElement;
        Assert.Equal(0, root.GetProperty("varyingNodes").GetInt32());
        JsonElement[] matmuls = [.. root.GetProperty("nodes").EnumerateArray().Where(node => node.GetProperty("op").GetString() == "MatMulNBits")];
        Assert.NotEmpty(matmuls);
        Assert.All(matmuls, node => Assert.Equal("batch-invariant", node.GetProperty("servedBy").GetString()));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task VaryingNodeIsNamedAndExitCodeIs3(bool json)
    {
        // No kernel of ours takes double.
        string file = Path.Combine(_temporary.Path, "double.onnx");
        WriteMatMul(file, TensorProto.Types.DataType.Double);
        ToolResult result = await Tool.Run(["inspect", file, .. json ? new[] { "--json" } : []]);
        Assert.Equal((ExitCode.Varies, ""), (result.ExitCode, result.Error));
        Assert.Contains("the_product", result.Output, StringComparison.Ordinal);
        if (json)
        {
            JsonElement node = Assert.Single(JsonDocument.Parse(result.Output).RootElement.GetProperty("nodes").EnumerateArray());
            Assert.Equal("stock-varying", node.GetProperty("servedBy").GetString());
            Assert.NotEmpty(node.GetProperty("reason").GetString()!);
        }
    }

    /// <summary>What is not a terminal has no width: a line about a node is one line, whatever its name.</summary>
    [Fact]
    public async Task NamesAreNotBroken()
    {
        string name = string.Concat(Enumerable.Repeat("/a_module_inside_another", 20));
        string file = Path.Combine(_temporary.Path, "double.onnx");
        WriteMatMul(file, TensorProto.Types.DataType.Double, name);
        string[] lines = (await Tool.Run("inspect", file)).Output.Split('\n');
        Assert.Single(lines, line => line.StartsWith($"varies  {name} (MatMul): ", StringComparison.Ordinal));
        Assert.StartsWith("A session assigned its 1 nodes", lines[^2], StringComparison.Ordinal);
        Assert.StartsWith($"{file}: 1 nodes on cpu", lines[^3], StringComparison.Ordinal);
    }

    /// <summary>Graphs of which ONNX Runtime leaves no node, or that have none: a result like any other, about the user's file.</summary>
    [Theory]
    [InlineData("constants", 2)]
    [InlineData("identity", 1)]
    [InlineData("nothing", 0)]
    public async Task GraphOfWhichNothingIsLeft(string kind, int nodes)
    {
        string file = Path.Combine(_temporary.Path, $"{kind}.onnx");
        var graph = new GraphProto { Name = "graph" };
        var value = new TensorProto { Name = "c", DataType = (int)TensorProto.Types.DataType.Float, Dims = { 2, 2 }, FloatData = { 1, 2, 3, 4 } };
        graph.Input.Add(Matrix("a", TensorProto.Types.DataType.Float));
        graph.Output.Add(Matrix(kind == "nothing" ? "c" : "y", TensorProto.Types.DataType.Float));
        graph.Initializer.Add(value);
        if (kind == "constants")
        {
            graph.Node.AddRange(
            [
                new NodeProto { Name = "square", OpType = "MatMul", Input = { "c", "c" }, Output = { "s" } },
                new NodeProto { Name = "twice", OpType = "Add", Input = { "s", "s" }, Output = { "y" } },
            ]);
        }
        else if (kind == "identity")
        {
            graph.Node.Add(new NodeProto { Name = "same", OpType = "Identity", Input = { "a" }, Output = { "y" } });
        }

        var model = new ModelProto { IrVersion = 10, Graph = graph, OpsetImport = { new OperatorSetIdProto { Version = 21 } } };
        new OnnxModel(model).Save(file);
        ToolResult table = await Tool.Run("inspect", file);
        Assert.Equal((ExitCode.Success, ""), (table.ExitCode, table.Error));
        Assert.Contains($"{kind}.onnx: {nodes} nodes on cpu", table.Output, StringComparison.Ordinal);
        Assert.Contains(", 0 stock that can vary", table.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("skeleton", table.Output, StringComparison.Ordinal);

        ToolResult json = await Tool.Run("inspect", file, "--json");
        JsonElement root = JsonDocument.Parse(json.Output).RootElement;
        Assert.Equal((ExitCode.Success, nodes, 0), (json.ExitCode, root.GetProperty("nodes").GetArrayLength(), root.GetProperty("varyingNodes").GetInt32()));
        Assert.Empty(root.GetProperty("session").GetProperty("differences").EnumerateArray());
        ToolResult converted = await Tool.Run("convert", file, Path.Combine(_temporary.Path, "out"));
        Assert.Equal((ExitCode.Success, ""), (converted.ExitCode, converted.Error));
    }

    /// <summary>bf16 has kernels on GPUs alone. No GPU is needed to plan for one, but a library that was built with CUDA.</summary>
    [Fact]
    public async Task PlannedForAGpu()
    {
        string file = Path.Combine(_temporary.Path, "bf16.onnx");
        WriteMatMul(file, TensorProto.Types.DataType.Bfloat16);
        ToolResult onCpu = await Tool.Run("inspect", file, "--no-session");
        Assert.NotEqual(ExitCode.Success, onCpu.ExitCode);
        ToolResult onGpu = await Tool.Run("inspect", file, "--device", "cuda");
        string converted = Path.Combine(_temporary.Path, "out");
        ToolResult result = await Tool.Run("convert", "--device", "cuda", file, converted);
        if (onGpu.ExitCode == ExitCode.Failure)
        {
            onGpu.AssertFailedWith(ExitCode.Failure, file, "no CUDA kernels");
            result.AssertFailedWith(ExitCode.Failure, file, "no CUDA kernels");
            Assert.False(Directory.Exists(converted));
            return;
        }

        Assert.Equal((ExitCode.Success, ""), (onGpu.ExitCode, onGpu.Error));
        Assert.Contains("on cuda", onGpu.Output, StringComparison.Ordinal);
        Assert.Equal((ExitCode.Success, ""), (result.ExitCode, result.Error));
        ToolResult again = await Tool.Run("inspect", Path.Combine(converted, "bf16.onnx"), "--device", "cuda", "--json");
        JsonElement node = Assert.Single(JsonDocument.Parse(again.Output).RootElement.GetProperty("nodes").EnumerateArray());
        Assert.Equal(("ort.batch_invariant", "batch-invariant"), (node.GetProperty("domain").GetString(), node.GetProperty("servedBy").GetString()));
    }

    [Fact]
    public async Task FileThatIsNoModel()
    {
        string file = Path.Combine(_temporary.Path, "text.onnx");
        await File.WriteAllTextAsync(file, "this is no model");
        (await Tool.Run("inspect", file)).AssertFailedWith(ExitCode.Failure, file);
    }

    public void Dispose() => _temporary.Dispose();

    internal static void WriteMatMul(string file, TensorProto.Types.DataType type, string name = "the_product")
    {
        var graph = new GraphProto { Name = "graph" };
        graph.Input.AddRange([Matrix("a", type), Matrix("b", type)]);
        graph.Output.Add(Matrix("y", type));
        graph.Node.Add(new NodeProto { Name = name, OpType = "MatMul", Input = { "a", "b" }, Output = { "y" } });
        var model = new ModelProto { IrVersion = 10, Graph = graph };
        model.OpsetImport.Add(new OperatorSetIdProto { Version = 21 });
        new OnnxModel(model).Save(file);
    }

    private static ValueInfoProto Matrix(string name, TensorProto.Types.DataType type) => new()
    {
        Name = name,
        Type = new TypeProto
        {
            TensorType = new TypeProto.Types.Tensor
            {
                ElemType = (int)type,
                Shape = new TensorShapeProto
                {
                    Dim = { new TensorShapeProto.Types.Dimension { DimParam = $"{name}0" }, new TensorShapeProto.Types.Dimension { DimParam = $"{name}1" } },
                },
            },
        },
    };
}
