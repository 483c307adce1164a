namespace OrtBatchInvariant.Models.Export;

/// <summary>Type of the weights of an exported model.</summary>
public enum ExportPrecision
{
    /// <summary>fp32 weights and activations (CPU).</summary>
    Fp32,

    /// <summary>fp16 weights and activations (CUDA).</summary>
    Fp16,

    /// <summary>bf16 weights and activations, fp32 logits (CUDA).</summary>
    Bf16,

    /// <summary>4-bit weights in blocks; activations fp32 on the CPU, fp16 or bf16 on CUDA.</summary>
    Int4,

    /// <summary>8-bit weights in blocks; activations as for <see cref="Int4"/>.</summary>
    Int8,
}

/// <summary>The device that the graph's form is chosen for, as GenAI's model builder does.</summary>
public enum ExportTarget
{
    /// <summary>fp32 activations; norms of q and k are nodes of their own.</summary>
    Cpu,

    /// <summary>fp16 or bf16 activations; norms of q and k are inputs of GroupQueryAttention.</summary>
    Cuda,
}

/// <summary>What to export.</summary>
public sealed record ExportOptions
{
    /// <summary>Type of the weights.</summary>
    public ExportPrecision Precision { get; init; } = ExportPrecision.Fp32;

    /// <summary>The device that the graph's form is chosen for.</summary>
    public ExportTarget Target { get; init; } = ExportTarget.Cpu;

    /// <summary>
    /// MatMulNBits' <c>accuracy_level</c>: 0 computes in the activation type, 4 rounds activations to int8. Null takes the
    /// model builder's default: 4 on the CPU, 0 on CUDA. Only for <see cref="ExportPrecision.Int4"/> and
    /// <see cref="ExportPrecision.Int8"/>.
    /// </summary>
    public int? AccuracyLevel { get; init; }

    /// <summary>Weights that share a scale: 16, 32, 64, 128 or 256, along the in features.</summary>
    public int BlockSize { get; init; } = 32;

    /// <summary>Whether blocks have no zero point of their own.</summary>
    public bool IsSymmetric { get; init; } = true;

    /// <summary>On CUDA, whether quantised models compute in bf16 rather than fp16.</summary>
    public bool UseBf16Activations { get; init; }

    /// <summary>
    /// Longest sequence, in tokens; null takes the model's own. A shorter one makes smaller rotary caches. With rope scaling of
    /// type longrope (Phi-3) it settles which factors serve all sequences: the short ones up to the original context length, the
    /// long ones beyond.
    /// </summary>
    public int? ContextLength { get; init; }

    /// <summary>Whether a non-empty output folder is replaced; otherwise it is refused.</summary>
    public bool Overwrite { get; init; }

    internal int WeightBits => Precision switch
    {
        ExportPrecision.Int4 => 4,
        ExportPrecision.Int8 => 8,
        _ => 0,
    };

    internal int EffectiveAccuracyLevel => AccuracyLevel ?? (Target == ExportTarget.Cpu ? 4 : 0);

    internal Onnx.TensorProto.Types.DataType ActivationType => (Precision, Target, UseBf16Activations) switch
    {
        (_, ExportTarget.Cpu, _) => Onnx.TensorProto.Types.DataType.Float,
        (ExportPrecision.Bf16, _, _) or (ExportPrecision.Int4 or ExportPrecision.Int8, _, true) => Onnx.TensorProto.Types.DataType.Bfloat16,
        _ => Onnx.TensorProto.Types.DataType.Float16,
    };

    internal void Validate()
    {
        var isForCpu = Precision is ExportPrecision.Fp32 or ExportPrecision.Int4 or ExportPrecision.Int8;
        if (Target == ExportTarget.Cpu && !isForCpu)
        {
            throw new ModelException($"Precision {Precision} is for the target Cuda; the target Cpu takes Fp32, Int4 and Int8.");
        }

        if (Target == ExportTarget.Cuda && Precision == ExportPrecision.Fp32)
        {
            throw new ModelException("Precision Fp32 is for the target Cpu; the target Cuda takes Fp16, Bf16, Int4 and Int8.");
        }

        if (BlockSize is not (16 or 32 or 64 or 128 or 256))
        {
            throw new ModelException($"Block size {BlockSize} cannot be used; take 16, 32, 64, 128 or 256.");
        }

        if (EffectiveAccuracyLevel is not (0 or 4))
        {
            throw new ModelException($"Accuracy level {AccuracyLevel} cannot be used; take 0 or 4.");
        }
    }
}

/// <summary>How far an export is.</summary>
/// <param name="Tensor">The tensor that was written last.</param>
/// <param name="BytesWritten">Bytes of weights written so far.</param>
/// <param name="TotalBytes">Bytes of weights in all.</param>
public readonly record struct ExportProgress(string Tensor, long BytesWritten, long TotalBytes);

/// <summary>What was exported.</summary>
/// <param name="Folder">The output folder.</param>
/// <param name="NodeCount">Nodes of the graph.</param>
/// <param name="WeightBytes">Bytes of weights.</param>
/// <param name="CopiedFiles">Tokenizer files that were passed on.</param>
public sealed record ExportResult(string Folder, int NodeCount, long WeightBytes, IReadOnlyList<string> CopiedFiles);
