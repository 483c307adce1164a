namespace OrtBatchInvariant;

/// <summary>A set of CPU kernels. All sets give the same bytes; they differ in speed.</summary>
public enum CpuInstructionSet
{
    /// <summary>Plain C++.</summary>
    Scalar,

    /// <summary>x86-64 with AVX2 and FMA.</summary>
    Avx2,

    /// <summary>x86-64 with AVX-512.</summary>
    Avx512,

    /// <summary>Arm64 with NEON.</summary>
    Neon,
}
