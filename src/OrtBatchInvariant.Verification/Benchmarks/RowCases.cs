using System.Globalization;
using Microsoft.ML.OnnxRuntime.Tensors;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>Operators that map a row to a row, or to one number: norms, activations, softmax, reductions.</summary>
internal static class RowCases
{
    public static OpCase RmsNorm(int width, int[] rows) => new(
        "SimplifiedLayerNormalization",
        $"width {width}",
        "fp32",
        () => new NodeModel("", "SimplifiedLayerNormalization")
            .Input("x", DataType.Float, 0, width)
            .Weight<float>("scale", DataType.Float, RandomNumbers.Normals(width, 1), width)
            .Output("y", DataType.Float, 0, width)
            .Attribute("axis", -1).Attribute("epsilon", 1e-6f).Attribute("stash_type", 1)
            .Build(),
        [.. rows.Select(m => Run(m, width))]);

    public static OpCase SkipRmsNorm(int width, int[] rows) => new(
        "SkipSimplifiedLayerNormalization",
        $"width {width}",
        "fp32",
        () => new NodeModel(NodeModel.Microsoft, "SkipSimplifiedLayerNormalization")
            .Input("x", DataType.Float, 0, width)
            .Input("skip", DataType.Float, 0, width)
            .Weight<float>("gamma", DataType.Float, RandomNumbers.Normals(width, 1), width)
            .Output("y", DataType.Float, 0, width).Output("").Output("").Output("sum", DataType.Float, 0, width)
            .Attribute("epsilon", 1e-6f)
            .Build(),
        [
            .. rows.Select(m => new OpRun(
                m, 5.0 * m * width, 16.0 * m * width,
                () => new OpValues().Input("x", m, width).Input("skip", m, width).Output("y", m, width).Output("sum", m, width))),
        ]);

    /// <summary>The RMS norm of op set 23.</summary>
    public static OpCase OnnxRmsNorm(int width, int[] rows) => new(
        "RMSNormalization",
        $"width {width}",
        "fp32",
        () => new NodeModel("", "RMSNormalization", opset: 23)
            .Input("x", DataType.Float, 0, width)
            .Weight<float>("scale", DataType.Float, RandomNumbers.Normals(width, 1), width)
            .Output("y", DataType.Float, 0, width)
            .Build(),
        [.. rows.Select(m => Run(m, width))]);

    public static OpCase LayerNorm(int width, int[] rows) => new(
        "LayerNormalization",
        $"width {width}",
        "fp32",
        () => new NodeModel("", "LayerNormalization")
            .Input("x", DataType.Float, 0, width)
            .Weight<float>("scale", DataType.Float, RandomNumbers.Normals(width, 1), width)
            .Weight<float>("bias", DataType.Float, RandomNumbers.Normals(width, 1), width)
            .Output("y", DataType.Float, 0, width)
            .Build(),
        [.. rows.Select(m => Run(m, width))]);

    public static OpCase SkipLayerNorm(int width, int[] rows) => new(
        "SkipLayerNormalization",
        $"width {width}",
        "fp32",
        () => new NodeModel(NodeModel.Microsoft, "SkipLayerNormalization")
            .Input("x", DataType.Float, 0, width)
            .Input("skip", DataType.Float, 0, width)
            .Weight<float>("gamma", DataType.Float, RandomNumbers.Normals(width, 1), width)
            .Weight<float>("beta", DataType.Float, RandomNumbers.Normals(width, 1), width)
            .Output("y", DataType.Float, 0, width).Output("").Output("").Output("sum", DataType.Float, 0, width)
            .Build(),
        [
            .. rows.Select(m => Run(m, width) with
            {
                Bytes = 16.0 * m * width,
                Values = () => new OpValues().Input("x", m, width).Input("skip", m, width).Output("y", m, width).Output("sum", m, width),
            }),
        ]);

    /// <summary>EmbedLayerNormalization: the sum of two embeddings, normalised.</summary>
    public static OpCase EmbedLayerNorm(int width, int[] rows)
    {
        const int Words = 8192;
        const int Positions = 512;
        return new OpCase(
            "EmbedLayerNormalization",
            $"width {width}",
            "fp32",
            () => new NodeModel(NodeModel.Microsoft, "EmbedLayerNormalization")
                .Input("ids", DataType.Int32, 0, 0).Input("")
                .Weight<float>("words", DataType.Float, RandomNumbers.Normals((long)Words * width, 1), Words, width)
                .Weight<float>("positions", DataType.Float, RandomNumbers.Normals((long)Positions * width, 1), Positions, width)
                .Input("")
                .Weight<float>("gamma", DataType.Float, RandomNumbers.Normals(width, 1), width)
                .Weight<float>("beta", DataType.Float, RandomNumbers.Normals(width, 1), width)
                .Output("y", DataType.Float, 0, 0, width).Output("mask_index", DataType.Int32, 0)
                .Build(),
            [
                .. rows.Select(m => Run(m, width) with
                {
                    Bytes = 12.0 * m * width,
                    Values = () => new OpValues()
                        .Input("ids", Enumerable.Range(0, m).Select(token => token * 31 % Words).ToArray(), 1, m)
                        .Output("y", 1, m, width).Output("mask_index", TensorElementType.Int32, 1),
                }),
            ]);
    }

    /// <summary>One input and one output of its shape: softmax and the activations.</summary>
    public static OpCase Unary(string domain, string op, int width, int[] rows) => new(
        domain.Length == 0 || op != "Gelu" ? op : $"{op} ({domain})",
        $"width {width}",
        "fp32",
        () => new NodeModel(domain, op).Input("x", DataType.Float, 0, width).Output("y", DataType.Float, 0, width).Build(),
        [.. rows.Select(m => Run(m, width))]);

    public static OpCase BiasGelu(int width, int[] rows) => new(
        "BiasGelu",
        $"width {width}",
        "fp32",
        () => new NodeModel(NodeModel.Microsoft, "BiasGelu")
            .Input("x", DataType.Float, 0, width)
            .Weight<float>("bias", DataType.Float, RandomNumbers.Normals(width, 1), width)
            .Output("y", DataType.Float, 0, width)
            .Build(),
        [.. rows.Select(m => Run(m, width))]);

    /// <summary>silu(gate) * up: three nodes of a model, one kernel of the provider.</summary>
    public static OpCase GatedSilu(int width, int[] rows) => new(
        "Sigmoid-Mul-Mul",
        $"silu(gate) * up, width {width}",
        "fp32",
        () => new NodeModel("", "Mul")
            .Given("gate", DataType.Float, NodeModel.Rows, width)
            .Computed("sigmoid", "Sigmoid", "gate").Computed("silu", "Mul", "gate", "sigmoid")
            .Input("silu").Input("up", DataType.Float, NodeModel.Rows, width)
            .Output("y", DataType.Float, NodeModel.Rows, width)
            .Build(),
        [
            .. rows.Select(m => Run(m, width) with
            {
                Bytes = 12.0 * m * width,
                Values = () => new OpValues().Input("gate", m, width).Input("up", m, width).Output("y", m, width),
            }),
        ]);

    /// <summary>Positive numbers to a power that a model has as a constant.</summary>
    public static OpCase Pow(int width, float exponent, int[] rows) => new(
        "Pow",
        string.Create(CultureInfo.InvariantCulture, $"width {width}, exponent {exponent}"),
        "fp32",
        () => new NodeModel("", "Pow")
            .Input("x", DataType.Float, 0, width)
            .Weight<float>("exponent", DataType.Float, [exponent])
            .Output("y", DataType.Float, 0, width)
            .Build(),
        [
            .. rows.Select(m => Run(m, width) with
            {
                Values = () => new OpValues()
                    .Input("x", RandomNumbers.Normals((long)m * width, 1).Select(Math.Abs).ToArray(), m, width).Output("y", m, width),
            }),
        ]);

    /// <summary>A reduction over the last axis.</summary>
    public static OpCase Reduction(string op, int width, int[] rows) => new(
        op,
        $"width {width}",
        "fp32",
        () => new NodeModel("", op)
            .Input("x", DataType.Float, 0, width)
            .Weight<long>("axes", DataType.Int64, [-1], 1)
            .Output("y", DataType.Float, 0, 1)
            .Build(),
        [
            .. rows.Select(m => Run(m, width) with
            {
                Bytes = 4.0 * m * width,
                Values = () => new OpValues().Input("x", m, width).Output("y", m, 1),
            }),
        ]);

    private static OpRun Run(int m, int width) => new(
        m, 4.0 * m * width, 8.0 * m * width, () => new OpValues().Input("x", m, width).Output("y", m, width));
}
