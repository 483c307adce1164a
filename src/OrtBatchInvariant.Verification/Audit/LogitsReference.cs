using System.Security.Cryptography;
using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>The logits of every position of a text, as bytes: of the text alone in its batch, or of a row of another batch.</summary>
internal sealed class LogitsReference
{
    private readonly byte[][] _positions;
    private readonly int?[] _mostLikely;

    /// <param name="shape">The model.</param>
    /// <param name="text">The text.</param>
    /// <param name="positions">The logits of each position.</param>
    public LogitsReference(DecoderShape shape, AuditText text, byte[][] positions)
    {
        Shape = shape;
        PromptLength = text.PromptLength;
        _positions = positions;
        _mostLikely = [.. positions.Select(logits => BatchLogits.MostLikelyOrNone(shape, logits))];
    }

    public DecoderShape Shape { get; }

    public int PromptLength { get; }

    public int Length => _positions.Length;

    /// <summary>
    /// Runs the prompt alone in its batch in one run, then its greedy completion token by token, or a completion that is there already.
    /// A model without a KV cache is then given the whole text once more in one run, which is what counts.
    /// </summary>
    /// <exception cref="VerificationException">The logits are such that comparing them would prove nothing.</exception>
    public static LogitsReference Record(DecoderModel model, AuditText text)
    {
        var positions = new byte[text.Length][];
        if (model.Shape.HasCache || text.Tokens.Length < text.Length)
        {
            Complete(model, text, positions);
        }

        if (!model.Shape.HasCache)
        {
            using var whole = new DecoderBatch(model, 1, text.Length, model.PoisonsBuffers);
            using BatchLogits logits = whole.Append([text.Tokens]);
            positions = [.. Enumerable.Range(0, text.Length).Select(position => logits.Bytes(0, position).ToArray())];
        }

        var reference = new LogitsReference(model.Shape, text, positions);
        reference.CheckMeaningful(model);
        return reference;
    }

    public ReadOnlySpan<byte> Bytes(int position) => _positions[position];

    /// <summary>The most likely token; null if a logit is not a number.</summary>
    public int? MostLikely(int position) => _mostLikely[position];

    private static void Complete(DecoderModel model, AuditText text, byte[][] positions)
    {
        using var batch = new DecoderBatch(model, 1, text.Length, model.PoisonsBuffers);
        bool isComplete = text.Tokens.Length == text.Length;
        var completion = new List<int>();
        using (BatchLogits logits = batch.Append([text.Tokens[..text.PromptLength]]))
        {
            for (int position = 0; position < text.PromptLength; position++)
            {
                positions[position] = logits.Bytes(0, position).ToArray();
            }
        }

        for (int position = text.PromptLength; position < text.Length; position++)
        {
            completion.Add(isComplete ? text.Tokens[position] : text.Next(BatchLogits.MostLikelyOrNone(model.Shape, positions[position - 1]) ?? throw NotNumbers(model, position - 1)));
            using BatchLogits logits = batch.Append([[completion[^1]]]);
            positions[position] = logits.Bytes(0, 0).ToArray();
        }

        text.Complete(completion);
    }

    private static VerificationException NotNumbers(DecoderModel model, int position) =>
        new($"{model.Folder.DecoderFile}: the text alone has logits that are not numbers, first at position {position}, so that no token can be chosen from them.");

    // A model that ignores its input, or a comparison that sees nothing, would pass every axis.
    private void CheckMeaningful(DecoderModel model)
    {
        if (Array.FindIndex(_mostLikely, token => token is null) is >= 0 and var position)
        {
            throw NotNumbers(model, position);
        }

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
