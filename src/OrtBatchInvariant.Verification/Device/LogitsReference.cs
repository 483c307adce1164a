using System.Numerics;
using System.Runtime.InteropServices;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>The logits of every position of one text, as bytes, and a count of what was compared with them.</summary>
internal sealed class LogitsReference
{
    private readonly byte[][] _positions;
    private readonly int _elementBytes;

    private LogitsReference(byte[][] positions, int elementBytes)
    {
        _positions = positions;
        _elementBytes = elementBytes;
    }

    public long Compared { get; private set; }

    public long Different { get; private set; }

    /// <summary>Runs the text alone in its batch: the prompt in one run, the rest token by token.</summary>
    public static LogitsReference Record(DecoderModel model, int[] text, int promptTokens)
    {
        using var batch = new DecoderBatch(model, 1, text.Length, poisons: PoisonsAt(model));
        var positions = new byte[text.Length][];
        using (BatchLogits logits = batch.Append([text[..promptTokens]]))
        {
            for (int position = 0; position < promptTokens; position++)
            {
                positions[position] = logits.Bytes(0, position).ToArray();
            }
        }

        for (int position = promptTokens; position < text.Length; position++)
        {
            using BatchLogits logits = batch.Append([[text[position]]]);
            positions[position] = logits.Bytes(0, 0).ToArray();
        }

        var reference = new LogitsReference(positions, DecoderShape.ElementBytes(model.Shape.LogitsType));
        reference.CheckMeaningful(model.Folder);
        return reference;
    }

    // Stock kernels multiply what lies behind the end of a KV buffer by zero, which NaN survives.
    public static bool PoisonsAt(DecoderModel model) => model.Options.Kernels == Hosting.KernelSet.BatchInvariant;

    public LogitsReference Restart() => new(_positions, _elementBytes);

    public void Compare(int position, ReadOnlySpan<byte> logits)
    {
        ReadOnlySpan<byte> expected = _positions[position];
        Compared += expected.Length / _elementBytes;
        if (!expected.SequenceEqual(logits))
        {
            Different += CountDifferent(expected, logits);
        }
    }

    /// <summary>Checks that a single flipped bit would be seen.</summary>
    public bool SeesOneBit()
    {
        byte[] flipped = [.. _positions[0]];
        flipped[flipped.Length / 2] ^= 1;
        LogitsReference probe = Restart();
        probe.Compare(0, flipped);
        return probe.Different == 1;
    }

    private long CountDifferent(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual) => _elementBytes == 4
        ? Count<uint>(expected, actual)
        : Count<ushort>(expected, actual);

    private static long Count<T>(ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual)
        where T : unmanaged, IEqualityOperators<T, T, bool>
    {
        ReadOnlySpan<T> left = MemoryMarshal.Cast<byte, T>(expected);
        ReadOnlySpan<T> right = MemoryMarshal.Cast<byte, T>(actual);
        long different = 0;
        for (int i = 0; i < left.Length; i++)
        {
            different += left[i] != right[i] ? 1 : 0;
        }

        return different;
    }

    // A model that ignores its input, or answers NaN everywhere, would pass every comparison.
    private void CheckMeaningful(Hosting.ModelFolder folder)
    {
        if (_positions.Select(bytes => Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(bytes))).Distinct().Count() < _positions.Length)
        {
            throw new VerificationException($"{folder.Path}: two positions of a text have the same logits, so equal logits prove nothing.");
        }
    }
}
