namespace OrtBatchInvariant.Conversion;

/// <summary>How a model is converted.</summary>
public sealed record ConvertOptions
{
    /// <summary>Whether converted nodes are turned back into what they were, instead.</summary>
    public bool Revert { get; init; }

    /// <summary>Whether an output folder that exists is replaced.</summary>
    public bool Overwrite { get; init; }

    /// <summary>
    /// Whether external data becomes a second name of the same file (a hard link) instead of a copy. Whoever writes to one then
    /// writes to the other.
    /// </summary>
    public bool Link { get; init; }

    /// <summary>
    /// Whether the converted model is to run beside ONNX Runtime's CUDA provider: nodes become the custom ops that run there, whose types
    /// and operators differ from those of the CPU. It needs no GPU. Most models are the same either way.
    /// </summary>
    /// <value>The default is <see langword="false"/>: on the CPU.</value>
    public bool ForCuda { get; init; }

    /// <summary>Whether a model is refused of which some nodes can still vary afterwards.</summary>
    /// <value>The default is <see langword="true"/>.</value>
    public bool Strict { get; init; } = true;
}

/// <summary>How far a conversion is.</summary>
/// <param name="BytesWritten">Bytes of the output folder written so far.</param>
/// <param name="TotalBytes">Bytes it will have, about.</param>
/// <param name="File">The file being written.</param>
public readonly record struct ConvertProgress(long BytesWritten, long TotalBytes, string File);

/// <summary>What became of a model file.</summary>
/// <param name="File">Its path in the output folder.</param>
/// <param name="ChangedNodes">Nodes rewritten in this conversion.</param>
/// <param name="CustomNodes">Nodes that are custom ops afterwards.</param>
/// <param name="VaryingNodes">Nodes whose results can still depend on the batch.</param>
public sealed record ConvertedModel(string File, int ChangedNodes, int CustomNodes, IReadOnlyList<CoverageNode> VaryingNodes);

/// <summary>What a conversion made.</summary>
/// <param name="Folder">The output folder.</param>
/// <param name="Models">Its model files.</param>
public sealed record ConvertResult(string Folder, IReadOnlyList<ConvertedModel> Models);
