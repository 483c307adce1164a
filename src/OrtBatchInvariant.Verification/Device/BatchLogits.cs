using System.Numerics.Tensors;
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
    private readonly IReadOnlyList<int>? _firsts;

    /// <param name="value">The logits, [rows, tokens, vocabulary].</param>
    /// <param name="shape">The model.</param>
    /// <param name="tokens">Tokens of the run.</param>
    /// <param name="firsts">The first new token of each row, where a run takes earlier ones again; null for 0.</param>
    internal BatchLogits(OrtValue value, DecoderShape shape, int tokens, IReadOnlyList<int>? firsts = null)
    {
        _value = value;
        _shape = shape;
        _tokens = tokens;
        _firsts = firsts;
    }

    /// <summary>The bytes of the logits of a token of a row.</summary>
    /// <param name="row">The row in the batch.</param>
    /// <param name="token">The token, counted from the first that is new in this run.</param>
    public ReadOnlySpan<byte> Bytes(int row, int token) =>
        _value.GetTensorMutableRawData().Slice(checked(((row * _tokens) + (_firsts?[row] ?? 0) + token) * _shape.LogitsBytes), _shape.LogitsBytes);

    /// <summary>The most likely token. Among exactly equal logits the lowest id wins.</summary>
    /// <param name="row">The row in the batch.</param>
    /// <param name="token">The token, counted from the first that is new in this run.</param>
    /// <exception cref="VerificationException">A logit is not a number.</exception>
    public int MostLikely(int row, int token) => MostLikely(_shape, Bytes(row, token));

    internal static int MostLikely(DecoderShape shape, ReadOnlySpan<byte> logits) =>
        MostLikelyOrNone(shape, logits) ?? throw new VerificationException("A logit is not a number.");

    /// <summary>The same; null if a logit is not a number.</summary>
    internal static int? MostLikelyOrNone(DecoderShape shape, ReadOnlySpan<byte> logits)
    {
        if (shape.LogitsType == TensorElementType.Float)
        {
            ReadOnlySpan<float> values = MemoryMarshal.Cast<byte, float>(logits);
            float largest = TensorPrimitives.Max(values);
            return float.IsNaN(largest) ? null : values.IndexOf(largest);
        }

        int best = 0;
        float highest = float.NegativeInfinity;
        for (int i = 0; i < shape.VocabularySize; i++)
        {
            float value = Read(shape.LogitsType, logits, i);
            if (float.IsNaN(value))
            {
                return null;
            }

            if (value > highest)
            {
                (best, highest) = (i, value);
            }
        }

        return best;
    }

    /// <summary>A logit.</summary>
    internal static float Read(TensorElementType type, ReadOnlySpan<byte> logits, int index) => type switch
    {
        TensorElementType.Float => MemoryMarshal.Cast<byte, float>(logits)[index],
        TensorElementType.Float16 => (float)MemoryMarshal.Cast<byte, Half>(logits)[index],
        _ => BitConverter.UInt32BitsToSingle((uint)MemoryMarshal.Cast<byte, ushort>(logits)[index] << 16),
    };

    /// <inheritdoc/>
    public void Dispose() => _value.Dispose();
}
