using System.Security.Cryptography;
using System.Text.Json;
using OrtBatchInvariant.Verification.Audit.Reports;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Files;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>Digests of the logits of a text, and what they came from.</summary>
/// <param name="Subject">The model, provider, device and versions.</param>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="Text">The prompt and its completion.</param>
/// <param name="Positions">The start of the SHA-256 of each position's logits.</param>
public sealed record LogitsDigests(AuditSubject Subject, int PromptTokens, IReadOnlyList<int> Text, IReadOnlyList<string> Positions)
{
    private const int DigestBytes = 8;

    /// <summary>Runs a text alone in its batch: the prompt in one run, the rest token by token.</summary>
    /// <param name="model">The model.</param>
    /// <param name="options">The prompt, or what to draw one from, and the length of its completion.</param>
    /// <exception cref="VerificationException">The model cannot be run.</exception>
    public static LogitsDigests Record(DecoderModel model, AuditOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        return Run(model, new AuditText(model, options));
    }

    /// <summary>Runs the text of these digests and compares.</summary>
    /// <param name="model">The model, on whatever device.</param>
    /// <exception cref="VerificationException">The model cannot be run.</exception>
    public DigestCheck Check(DecoderModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        var text = new AuditText(model, new AuditOptions { Prompt = [.. Text.Take(PromptTokens)], NewTokens = Text.Count - PromptTokens });
        text.Complete([.. Text.Skip(PromptTokens)]);
        LogitsDigests now = Run(model, text);
        int[] different = [.. Enumerable.Range(0, Positions.Count).Where(position => Positions[position] != now.Positions[position])];
        return new DigestCheck(Positions.Count, different.Length, different.Length > 0 ? different[0] : null, Changes(Subject, now.Subject));
    }

    /// <summary>Reads a file of digests.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="VerificationException">It is missing or holds something else.</exception>
    public static LogitsDigests Read(string path)
    {
        try
        {
            LogitsDigests? digests = JsonSerializer.Deserialize(File.ReadAllText(path), AuditJson.Default.LogitsDigests);
            if (digests is { Subject: not null, Text: { } text, Positions: { } positions, PromptTokens: > 1 } && positions.Count == text.Count && digests.PromptTokens < text.Count)
            {
                return digests;
            }
        }
        catch (Exception exception) when (exception is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new VerificationException($"{path}: cannot be read as digests of logits ({exception.Message.TrimEnd('.')}).", exception);
        }

        throw new VerificationException($"{path}: holds no digests of logits; write it with `ortbi verify MODEL --record {path}`.");
    }

    /// <summary>Writes the digests.</summary>
    /// <param name="path">The file; an existing one is replaced.</param>
    public void Write(string path) => AtomicText.Write(path, JsonSerializer.Serialize(this, AuditJson.Default.LogitsDigests) + "\n");

    private static LogitsDigests Run(DecoderModel model, AuditText text)
    {
        LogitsReference reference = LogitsReference.Record(model, text);
        return new LogitsDigests(
            SubjectReader.Read(model), text.PromptLength, text.Tokens,
            [.. Enumerable.Range(0, reference.Length).Select(position => Convert.ToHexStringLower(SHA256.HashData(reference.Bytes(position))[..DigestBytes]))]);
    }

    private static IReadOnlyList<SubjectChange> Changes(AuditSubject then, AuditSubject now)
    {
        (string What, string Then, string Now)[] parts =
        [
            ("model", then.ModelDigest, now.ModelDigest),
            ("provider", then.Provider, now.Provider),
            ("device", then.Device, now.Device),
            ("instruction set", then.InstructionSet, now.InstructionSet),
            ("ONNX Runtime", then.OnnxRuntime, now.OnnxRuntime),
            ("library", then.Library, now.Library),
            ("contracts", string.Join(' ', then.Contracts), string.Join(' ', now.Contracts)),
        ];
        return [.. parts.Where(part => part.Then != part.Now).Select(part => new SubjectChange(part.What, part.Then, part.Now))];
    }
}

/// <summary>Something that is not as it was when digests were recorded.</summary>
/// <param name="What">What it is.</param>
/// <param name="Then">What it was.</param>
/// <param name="Now">What it is now.</param>
public sealed record SubjectChange(string What, string Then, string Now);

/// <summary>What checking digests came to.</summary>
/// <param name="Positions">Positions that were compared.</param>
/// <param name="Different">Those of them whose logits are other bytes.</param>
/// <param name="FirstDifferent">The first of these; null if there is none.</param>
/// <param name="Changes">What else is not as it was.</param>
public sealed record DigestCheck(int Positions, int Different, int? FirstDifferent, IReadOnlyList<SubjectChange> Changes)
{
    /// <summary>Whether all bytes are as they were.</summary>
    public bool Holds => Positions > 0 && Different == 0;

    /// <summary>One sentence.</summary>
    public override string ToString()
    {
        string changes = Changes.Count == 0 ? "nothing else changed"
            : $"changed since: {string.Join("; ", Changes.Select(change => $"{change.What}, {Short(change.Then)} then, {Short(change.Now)} now"))}";
        return Holds ? $"The logits of all {Positions} positions are the recorded bytes; {changes}."
            : $"The logits of {Different} of {Positions} positions are not the recorded bytes, from position {FirstDifferent} on; {changes}.";
    }

    // Of a SHA-256 the beginning says enough; a list of contracts can be as long as one.
    private static string Short(string text) => text.Length == 0 ? "none" : text.Length == 64 && text.All(char.IsAsciiHexDigitLower) ? text[..12] : text;
}
