using Microsoft.ML.OnnxRuntime.Tensors;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>EmbedLayerNormalization of com.microsoft: the first node of BERT and GPT-2 graphs.</summary>
public sealed class EmbedLayerNormTests(ITestOutputHelper output)
{
    private const int Tokens = 7;
    private const int Hidden = 52;

    [Fact]
    public void WordsAndPositions() => Checks.All(Case(segments: false, positions: false, mask: false), output);

    [Fact]
    public void WithSegmentsAndMask() => Checks.All(Case(segments: true, positions: false, mask: true), output);

    [Fact]
    public void WithPositionsOfEachToken() => Checks.All(Case(segments: true, positions: true, mask: true), output);

    [Fact]
    public void WithoutTheSum() =>
        Checks.All(Case(segments: true, positions: true, mask: false) with { Outputs = [new("y"), new("mask_index", 0, TensorElementType.Int32)], Attributes = [("epsilon", 1e-3f)] }, output);

    [Fact]
    public void InFloat16()
    {
        OpCase op = Case(segments: true, positions: true, mask: true);
        Checks.All(
            op with
            {
                Inputs = [.. op.Inputs.Select(input => input is null ? null : input with { Make = (random, rows) => input.Make(random, rows).ToHalf() })],
                Outputs = [new("y", 0, TensorElementType.Float16), new("mask_index", 0, TensorElementType.Int32), new("sum", 0, TensorElementType.Float16)],
                StockOutputs = 0,
            },
            output);
    }

    internal static OpCase Case(bool segments, bool positions, bool mask) => new(
        "EmbedLayerNormalization", "norm.f32.v1",
        Ids("ids", 40), segments ? Ids("segments", 2) : null, Weight("word", 40, Hidden), Weight("position", 12, Hidden),
        segments ? Weight("segment", 2, Hidden) : null, Weight("gamma", Hidden), Weight("beta", Hidden),
        mask ? Ids("mask", 2) : null, positions ? Ids("places", 12) : null)
    {
        Domain = "com.microsoft",
        Outputs = [new("y"), new("mask_index", 0, TensorElementType.Int32), new("sum")],
    };

    private static Operand Ids(string name, int limit) =>
        EachRow(name, random => Tensor.Of([1, Tokens], [.. Enumerable.Range(0, Tokens).Select(_ => random.Next(limit))]));
}
