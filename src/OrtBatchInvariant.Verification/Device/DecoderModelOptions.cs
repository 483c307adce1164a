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

    /// <summary>
    /// The library with the custom ops of a converted model, which ONNX Runtime's own providers then run: for <see cref="KernelSet.Stock"/>,
    /// whose kernels are left with what is invariant by nature.
    /// </summary>
    /// <value>The default is <see langword="null"/>: the model was not converted.</value>
    public string? CustomOpLibrary { get; init; }

    /// <summary>Whether the batch-invariant provider refuses a model with nodes that it must leave to kernels that vary.</summary>
    /// <value>The default is <see langword="true"/>.</value>
    public bool Strict { get; init; } = true;

    /// <summary>Threads that one operator may use on the CPU.</summary>
    /// <value>The default is <see langword="null"/>: ONNX Runtime's choice.</value>
    public int? Threads { get; init; }

    /// <summary>The batch-invariant provider's CPU kernels.</summary>
    /// <value>The default is <see langword="null"/>: the fastest set that the processor has.</value>
    public CpuInstructionSet? InstructionSet { get; init; }

    /// <summary>Whether the batch-invariant provider runs groups of nodes as one kernel. The bytes are the same.</summary>
    /// <value>The default is <see langword="true"/>.</value>
    public bool FusesNodes { get; init; } = true;

    /// <summary>Whether ONNX Runtime may rewrite the graph.</summary>
    /// <value>The default is <see langword="true"/>, as in every session.</value>
    public bool OptimizesGraph { get; init; } = true;

    /// <summary>Values inside the graph that the graph was given as further outputs.</summary>
    internal IReadOnlyList<string> Exposed { get; init; } = [];

    /// <summary>Where to write ONNX Runtime's profile, as the start of a file name.</summary>
    /// <value>The default is <see langword="null"/>: no profile is made.</value>
    public string? ProfilePrefix { get; init; }
}
