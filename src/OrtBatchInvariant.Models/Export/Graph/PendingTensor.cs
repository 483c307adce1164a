using OrtBatchInvariant.Models.Onnx;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>Initializers that the graph already names and whose data is written once the graph is complete.</summary>
/// <param name="Tensors">One tensor, or those that are made together (quantised values, scales, zero points).</param>
/// <param name="Write">Appends the data of all of them.</param>
internal sealed record PendingTensor(IReadOnlyList<TensorProto> Tensors, Action<ExternalDataWriter, CancellationToken> Write)
{
    public long Bytes => Tensors.Sum(tensor =>
        ElementTypes.TryByteLength((TensorProto.Types.DataType)tensor.DataType, tensor.Dims, out var bytes)
            ? bytes
            : throw new ModelException($"Tensor '{tensor.Name}' of shape [{string.Join(", ", tensor.Dims)}] is too large."));
}
