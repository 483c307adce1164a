using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>Products with weights.</summary>
internal static class ProductCases
{
    private const int BlockSize = 32;

    public static OpCase MatMul(int k, int n, int[] rows) => new(
        "MatMul",
        $"K={k} N={n}",
        "fp32",
        () => new NodeModel("", "MatMul")
            .Input("a", DataType.Float, 0, k)
            .Weight<float>("b", DataType.Float, RandomNumbers.Normals((long)k * n, 0.02f), k, n)
            .Output("y", DataType.Float, 0, n)
            .Build(),
        [.. rows.Select(m => Run(m, k, n))]);

    public static OpCase MatMulNBits(int k, int n, int bits, int accuracyLevel, int[] rows)
    {
        int blocks = k / BlockSize;
        long weightBytes = (long)k * n * bits / 8;
        return new OpCase(
            "MatMulNBits",
            $"K={k} N={n}",
            $"int{bits}, accuracy_level {accuracyLevel}",
            () => new NodeModel(NodeModel.Microsoft, "MatMulNBits")
                .Input("a", DataType.Float, 0, k)
                .Weight<byte>("b", DataType.Uint8, RandomNumbers.Bytes(weightBytes), n, blocks, BlockSize * bits / 8)
                .Weight<float>("scales", DataType.Float, RandomNumbers.Normals((long)n * blocks, 0.02f), (long)n * blocks)
                .Output("y", DataType.Float, 0, n)
                .Attribute("K", k).Attribute("N", n).Attribute("bits", bits).Attribute("block_size", BlockSize)
                .Attribute("accuracy_level", accuracyLevel)
                .Build(),
            [
                .. rows.Select(m => new OpRun(
                    m,
                    2.0 * m * k * n,
                    weightBytes + (4.0 * n * blocks) + (4.0 * m * (k + n)),
                    () => new OpValues().Input("a", m, k).Output("y", m, n))),
            ]);
    }

    /// <summary>Gemm with the weights turned around and a bias, as the linear layers of old models.</summary>
    public static OpCase Gemm(int k, int n, int[] rows) => new(
        "Gemm",
        $"K={k} N={n}, transB, bias",
        "fp32",
        () => new NodeModel("", "Gemm")
            .Input("a", DataType.Float, 0, k)
            .Weight<float>("b", DataType.Float, RandomNumbers.Normals((long)k * n, 0.02f), n, k)
            .Weight<float>("c", DataType.Float, RandomNumbers.Normals(n, 1), n)
            .Output("y", DataType.Float, 0, n)
            .Attribute("transB", 1)
            .Build(),
        [.. rows.Select(m => Run(m, k, n))]);

    /// <summary>FusedMatMul of two inputs, the second one turned around.</summary>
    public static OpCase FusedMatMul(int k, int n, int[] rows) => new(
        "FusedMatMul",
        $"K={k} N={n}, transB, computed",
        "fp32",
        () => new NodeModel(NodeModel.Microsoft, "FusedMatMul")
            .Input("a", DataType.Float, 0, k)
            .Input("b", DataType.Float, n, k)
            .Output("y", DataType.Float, 0, n)
            .Attribute("transB", 1).Attribute("alpha", 0.125f)
            .Build(),
        [.. rows.Select(m => Run(m, k, n) with { Values = () => new OpValues().Input("a", m, k).Input("b", n, k).Output("y", m, n) })]);

    private static OpRun Run(int m, int k, int n) => new(
        m, 2.0 * m * k * n, 4.0 * (((double)k * n) + (m * (double)(k + n))), () => new OpValues().Input("a", m, k).Output("y", m, n));
}
