using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>Where and with whose kernels a <see cref="DecoderModel"/> runs.</summary>
public sealed record DecoderModelOptions
{
    /// <summary>Whose kernels run it.</summary>
    /// <value>The default is <see cref="KernelSet.BatchInvariant"/>.</value>
    public KernelSet Kernels { get; init; } = KernelSet.BatchInvariant;

    /// <summary>The GPU, counted from 0 in the order of CUDA.</summary>
    /// <value>The default is <see langword="null"/>: the CPU.</value>
    public int? DeviceId { get; init; }

    /// <summary>Whether decode steps are captured once and replayed as CUDA graphs. Needs <see cref="DeviceId"/>.</summary>
    public bool EnableCudaGraph { get; init; }

    /// <summary>
    /// Whether ONNX Runtime's own CUDA provider is listed after the batch-invariant one, for what that leaves. Needs
    /// <see cref="DeviceId"/>.
    /// </summary>
    public bool BesideStockCuda { get; init; }

    /// <summary>Whether the batch-invariant provider refuses a model with nodes that it must leave to kernels that vary.</summary>
    /// <value>The default is <see langword="true"/>.</value>
    public bool Strict { get; init; } = true;

    /// <summary>Where to write ONNX Runtime's profile, as the start of a file name.</summary>
    /// <value>The default is <see langword="null"/>: no profile is made.</value>
    public string? ProfilePrefix { get; init; }
}
