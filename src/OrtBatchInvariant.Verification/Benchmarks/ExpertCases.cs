using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>Mixtures of experts: two experts of eight for each token, SwiGLU.</summary>
internal static class ExpertCases
{
    private const int Experts = 8;
    private const int Chosen = 2;
    private const int Hidden = 512;
    private const int Inner = 1024;
    private const int BlockSize = 32;
    private const string Shape = "8 experts of 512 x 1024, 2 a token";

    public static OpCase Floats(int[] rows) => new(
        "MoE",
        Shape,
        "fp32",
        () => Router("MoE")
            .Weight<float>("fc1", DataType.Float, RandomNumbers.Normals(2L * Experts * Inner * Hidden, 0.02f), Experts, 2 * Inner, Hidden)
            .Input("")
            .Weight<float>("fc2", DataType.Float, RandomNumbers.Normals((long)Experts * Inner * Hidden, 0.02f), Experts, Hidden, Inner)
            .Output("y", DataType.Float, 0, Hidden)
            .Build(),
        [.. rows.Select(m => Run(m, 4))]);

    public static OpCase Quantized(int[] rows) => new(
        "QMoE",
        Shape,
        "int4",
        () => Router("QMoE")
            .Weight<byte>("fc1", DataType.Uint8, RandomNumbers.Bytes((long)Experts * Inner * Hidden), Experts, 2 * Inner, Hidden / 2)
            .Weight<float>("fc1_scales", DataType.Float, Scales(2 * Inner, Hidden), Experts, 2 * Inner, Hidden / BlockSize)
            .Input("")
            .Weight<byte>("fc2", DataType.Uint8, RandomNumbers.Bytes((long)Experts * Hidden * Inner / 2), Experts, Hidden, Inner / 2)
            .Weight<float>("fc2_scales", DataType.Float, Scales(Hidden, Inner), Experts, Hidden, Inner / BlockSize)
            .Attribute("expert_weight_bits", 4).Attribute("block_size", BlockSize)
            .Output("y", DataType.Float, 0, Hidden)
            .Build(),
        [.. rows.Select(m => Run(m, 0.5 + (4.0 / BlockSize)))]);

    private static NodeModel Router(string op) => new NodeModel(NodeModel.Microsoft, op)
        .Input("x", DataType.Float, 0, Hidden)
        .Input("router", DataType.Float, 0, Experts)
        .Attribute("k", Chosen).Attribute("activation_type", "swiglu").Attribute("swiglu_fusion", 1).Attribute("normalize_routing_weights", 1);

    private static float[] Scales(int n, int k) => RandomNumbers.Normals((long)Experts * n * k / BlockSize, 0.02f);

    // Every token reads its own experts until all are read.
    private static OpRun Run(int m, double bytesOfWeight) => new(
        m,
        2.0 * m * Chosen * 3 * Hidden * Inner,
        (Math.Min(Experts, m * Chosen) * 3.0 * Hidden * Inner * bytesOfWeight) + (8.0 * m * Hidden),
        () => new OpValues().Input("x", m, Hidden).Input("router", m, Experts).Output("y", m, Hidden));
}
