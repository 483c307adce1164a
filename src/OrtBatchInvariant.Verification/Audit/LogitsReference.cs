using System.Security.Cryptography;
using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>The logits of every position of a text, as bytes, of the text alone in its batch.</summary>
internal sealed class LogitsReference
{
    private readonly byte[][] _positions;
    private readonly int[] _mostLikely;

    private LogitsReference(DecoderShape shape, AuditText text, byte[][] positions, int[] mostLikely)
    {
        Shape = shape;
        PromptLength = text.PromptLength;
        _positions = positions;
        _mostLikely = mostLikely;
    }

    public DecoderShape Shape { get; }

    public int PromptLength { get; }

    public int Length => _positions.Length;

    /// <summary>Runs the prompt alone in its batch in one run, then its greedy completion token by token, or a completion that is there already.</summary>
    /// <exception cref="VerificationException">The logits are such that comparing them would prove nothing.</exception>
    public static LogitsReference Record(DecoderModel model, AuditText text)
    {
        using var batch = new DecoderBatch(model, 1, text.Length, poisons: model.PoisonsBuffers);
        var positions = new byte[text.Length][];
        var mostLikely = new int[text.Length];
        bool isComplete = text.Tokens.Length == text.Length;
        var completion = new List<int>();
        using (BatchLogits logits = batch.Append([text.Tokens[..text.PromptLength]]))
        {
            for (int position = 0; position < text.PromptLength; position++)
            {
                Take(logits, position, position);
            }
        }

        for (int position = text.PromptLength; position < text.Length; position++)
        {
            completion.Add(isComplete ? text.Tokens[position] : mostLikely[position - 1]);
            using BatchLogits logits = batch.Append([[completion[^1]]]);
            Take(logits, 0, position);
        }

        text.Complete(completion);
        var reference = new LogitsReference(model.Shape, text, positions, mostLikely);
        reference.CheckMeaningful(model);
        return reference;

        void Take(BatchLogits logits, int token, int position)
        {
            positions[position] = logits.Bytes(0, token).ToArray();
            mostLikely[position] = logits.MostLikely(0, token);
        }
    }

    public ReadOnlySpan<byte> Bytes(int position) => _positions[position];

    public int MostLikely(int position) => _mostLikely[position];

    // A model that ignores its input, or a comparison that sees nothing, would pass every axis.
    private void CheckMeaningful(DecoderModel model)
    {
        if (_positions.Select(bytes => Convert.ToHexString(SHA256.HashData(bytes))).Distinct().Count() < _positions.Length)
        {
            throw new VerificationException($"{model.Folder.DecoderFile}: two positions of a text have the same logits, so equal logits prove nothing.");
        }

        byte[] flipped = [.. _positions[0]];
        flipped[flipped.Length / 2] ^= 1;
        if (FloatBits.Compare(Shape.LogitsType, _positions[0], flipped).Different != 1)
        {
            throw new VerificationException("A flipped bit in the logits went unseen: the comparison is broken.");
        }
    }
}
