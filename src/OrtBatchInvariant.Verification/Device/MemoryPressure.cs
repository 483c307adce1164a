using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>Takes all memory of a model's device, so that a test can see what happens then.</summary>
public sealed class MemoryPressure : IDisposable
{
    private const long LargestBlock = 1L << 30;
    private const long SmallestBlock = 1L << 21;

    private readonly List<OrtValue> _blocks = [];
    private readonly OrtValue _reserve;

    /// <summary>Takes the memory, in ever smaller blocks.</summary>
    /// <param name="model">The model whose device is meant.</param>
    /// <param name="reserve">Bytes that <see cref="ReleaseReserve"/> gives back.</param>
    public MemoryPressure(DecoderModel model, long reserve)
    {
        ArgumentNullException.ThrowIfNull(model);
        _reserve = Allocate(model, reserve);
        for (long bytes = LargestBlock; bytes >= SmallestBlock; bytes /= 2)
        {
            try
            {
                while (true)
                {
                    _blocks.Add(Allocate(model, bytes));
                }
            }
            catch (VerificationException)
            {
                // None of this size is left.
            }
        }
    }

    /// <summary>Gives the reserve back.</summary>
    public void ReleaseReserve() => _reserve.Dispose();

    /// <inheritdoc/>
    public void Dispose()
    {
        _reserve.Dispose();
        foreach (OrtValue block in _blocks)
        {
            block.Dispose();
        }
    }

    private static OrtValue Allocate(DecoderModel model, long bytes) => model.Memory.Allocate(TensorElementType.Float16, (bytes + 1) / 2);
}
