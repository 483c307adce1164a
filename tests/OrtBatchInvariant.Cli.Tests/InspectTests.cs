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

    [Fact]
    public async Task FileThatIsNoModel()
    {
        string file = Path.Combine(_temporary.Path, "text.onnx");
        await File.WriteAllTextAsync(file, "this is no model");
        (await Tool.Run("inspect", file)).AssertFailedWith(ExitCode.Failure, file);
    }

    public void Dispose() => _temporary.Dispose();

    internal static void WriteMatMul(string file, TensorProto.Types.DataType type)
    {
        var graph = new GraphProto { Name = "graph" };
        graph.Input.AddRange([Matrix("a", type), Matrix("b", type)]);
        graph.Output.Add(Matrix("y", type));
        graph.Node.Add(new NodeProto { Name = "the_product", OpType = "MatMul", Input = { "a", "b" }, Output = { "y" } });
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
