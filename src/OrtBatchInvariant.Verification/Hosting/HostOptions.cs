namespace OrtBatchInvariant.Verification.Hosting;

/// <summary>How a model is loaded.</summary>
public sealed record HostOptions
{
    /// <summary>Whose kernels run it.</summary>
    /// <value>The default is <see cref="KernelSet.BatchInvariant"/>.</value>
    public KernelSet Kernels { get; init; } = KernelSet.BatchInvariant;

    /// <summary>The number of threads that one operator may use.</summary>
    /// <value>The default is <see langword="null"/>: the model's own setting, or else GenAI's choice.</value>
    public int? Threads { get; init; }

    /// <summary>Whether the batch-invariant provider refuses a model with nodes that it must leave to kernels that vary.</summary>
    /// <value>The default is <see langword="true"/>.</value>
    public bool Strict { get; init; } = true;
}
