using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>The logits of one run, in host memory: for each row of the batch, those of each token that it was given.</summary>
public sealed class BatchLogits : IDisposable
{
    private readonly OrtValue _value;
    private readonly DecoderShape _shape;
    private readonly int _tokens;

    internal BatchLogits(OrtValue value, DecoderShape shape, int tokens)
    {
        _value = value;
        _shape = shape;
        _tokens = tokens;
    }

    /// <summary>The bytes of the logits of a token of a row.</summary>
    /// <param name="row">The row in the batch.</param>
    /// <param name="token">The token, counted from the first of this run.</param>
    public ReadOnlySpan<byte> Bytes(int row, int token) =>
        _value.GetTensorMutableRawData().Slice(checked(((row * _tokens) + token) * _shape.LogitsBytes), _shape.LogitsBytes);

    /// <summary>The most likely token. Among exactly equal logits the lowest id wins.</summary>
    /// <param name="row">The row in the batch.</param>
    /// <param name="token">The token, counted from the first of this run.</param>
    /// <exception cref="VerificationException">A logit is not a number.</exception>
    public int MostLikely(int row, int token)
    {
        ReadOnlySpan<byte> bytes = Bytes(row, token);
        int best = 0;
        float highest = float.NegativeInfinity;
        for (int i = 0; i < _shape.VocabularySize; i++)
        {
            float value = Read(bytes, i);
            if (float.IsNaN(value))
            {
                throw new VerificationException($"Logit {i} of row {row} is not a number.");
            }

            if (value > highest)
            {
                (best, highest) = (i, value);
            }
        }

        return best;
    }

    /// <inheritdoc/>
    public void Dispose() => _value.Dispose();

    private float Read(ReadOnlySpan<byte> bytes, int index) => _shape.LogitsType switch
    {
        TensorElementType.Float => MemoryMarshal.Cast<byte, float>(bytes)[index],
        TensorElementType.Float16 => (float)MemoryMarshal.Cast<byte, Half>(bytes)[index],
        _ => BitConverter.UInt32BitsToSingle((uint)MemoryMarshal.Cast<byte, ushort>(bytes)[index] << 16),
    };
}
