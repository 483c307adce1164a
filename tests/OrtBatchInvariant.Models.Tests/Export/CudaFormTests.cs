using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Models.Tests.Support;
using Xunit.Abstractions;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Tests.Export;

/// <summary>
/// Graphs in the form for CUDA, checked on the CPU: with every fp16 and bf16 value widened to fp32 through our provider, which
/// has the norms inside GroupQueryAttention, and in fp16 through the stock one where it has the kernels.
/// </summary>
[Collection(ProviderCollection.Name)]
public class CudaFormTests(ITestOutputHelper output)
{
    private static readonly int[] _tokens = [1, 17, 4, 63, 9, 9, 40, 22, 71, 5, 33, 12, 58, 2, 6, 79, 30, 44, 11, 27];

    public static TheoryData<string, ExportPrecision, bool> Cases()
    {
        var data = new TheoryData<string, ExportPrecision, bool>();
        foreach (var name in TinyModels.Names)
        {
            data.Add(name, ExportPrecision.Fp16, false);
            data.Add(name, ExportPrecision.Bf16, true);
            data.Add(name, ExportPrecision.Int4, false);
            data.Add(name, ExportPrecision.Int8, true);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void WidenedLogitsEqualTheForwardPassWithRoundedWeights(string name, ExportPrecision precision, bool bf16)
    {
        var model = TinyModels.Get(name);
        using var folder = new TemporaryFolder();
        Export(model, folder, precision, bf16);
        WidenedModel.Write(folder["onnx/model.onnx"], folder["wide/model.onnx"]);

        var exported = new ExportedWeights(folder["onnx/model.onnx"], model);
        var expected = new ReferenceDecoder(model, exported.Get, x => SafeTensorsWriter.Rounded(bf16 ? "BF16" : "F16", (float)x)).Logits(_tokens);
        using var runner = new OnnxRunner(folder["wide"], model, batchInvariant: true);
        Logits.AssertClose(expected, runner.Append(_tokens), tolerance: 2e-5, output);
        Logits.AssertClose(expected, Logits.ByPrefillAndSteps(runner, _tokens, prefill: 7), tolerance: 2e-5, output);
    }

    public static TheoryData<string> WithoutNormsOfHeads => [.. TinyModels.Names.Where(name => !TinyModels.Get(name).QkNorm)];

    [Theory]
    [MemberData(nameof(WithoutNormsOfHeads))]
    public void Fp16LogitsOfTheStockProviderAreNearTheForwardPass(string name)
    {
        var model = TinyModels.Get(name);
        using var folder = new TemporaryFolder();
        Export(model, folder, ExportPrecision.Fp16, bf16: false);
        var exported = new ExportedWeights(folder["onnx/model.onnx"], model);
        var expected = new ReferenceDecoder(model, exported.Get).Logits(_tokens);
        using var runner = new OnnxRunner(folder["onnx"], model);

        // Some ten roundings to fp16, of 2^-11 each, lie between the embedding and a logit of each layer.
        Logits.AssertClose(expected, runner.Append(_tokens), tolerance: 1e-2, output);
    }

    /// <summary>Gemma's residual stream and norms are fp32 in a narrow graph, as its builder keeps them; everything else is narrow.</summary>
    [Theory]
    [InlineData("gemma2", ExportPrecision.Fp16, DataType.Float16)]
    [InlineData("gemma3", ExportPrecision.Bf16, DataType.Bfloat16)]
    public void TheResidualStreamOfGemmaStaysInFp32(string name, ExportPrecision precision, DataType narrow)
    {
        var model = TinyModels.Get(name);
        using var folder = new TemporaryFolder();
        Export(model, folder, precision, bf16: false);
        var nodes = GraphInspector.Nodes(OnnxModel.Load(folder["onnx/model.onnx"]));
        var norms = nodes.Where(node => node.OpType.EndsWith("SimplifiedLayerNormalization", StringComparison.Ordinal)).ToList();
        Assert.Equal((4 * model.Layers) + 1, norms.Count);
        Assert.All(
            norms.SelectMany(node => node.Inputs.Concat(node.Outputs)).Where(value => value.Name.Length > 0),
            value => Assert.Equal(DataType.Float, value.ElementType));
        Assert.All(
            nodes.Where(node => node.OpType is "MatMul" or "GroupQueryAttention" or "Gelu").SelectMany(node => node.Outputs),
            value => Assert.Equal(narrow, value.ElementType));
        Assert.All(nodes.SelectMany(node => node.Outputs).Where(value => value.Name.Length > 0), value => Assert.NotNull(value.ElementType));
    }

    private static void Export(TinyModel model, TemporaryFolder folder, ExportPrecision precision, bool bf16) => ModelExporter.Export(
        model.WriteTo(folder["hf"], model.Weights()),
        folder["onnx"],
        new ExportOptions
        {
            Precision = precision,
            Target = ExportTarget.Cuda,
            UseBf16Activations = bf16,
            ContextLength = model.ExportContext,
        });
}
