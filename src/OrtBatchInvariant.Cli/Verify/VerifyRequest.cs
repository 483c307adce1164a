using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Cli.Verify;

/// <summary>What `ortbi verify` was asked for.</summary>
internal sealed record VerifyRequest
{
    public required string Model { get; init; }

    public required IReadOnlyList<string> Providers { get; init; }

    public bool IsOnGpu { get; init; }

    public IReadOnlyList<string>? Axes { get; init; }

    public bool IsQuick { get; init; }

    public int Seed { get; init; }

    public string? Prompt { get; init; }

    public int PromptTokens { get; init; }

    public int? Tokens { get; init; }

    public int? MaxRows { get; init; }

    public int? Completions { get; init; }

    public Arrivals Arrivals { get; init; }

    public bool PadsToBuckets { get; init; }

    public bool InGenAIEngine { get; init; }

    /// <summary>Texts to choose the prompt of completions from; null for none.</summary>
    public int? ChoosePrompt { get; init; }

    public string? RecordFile { get; init; }

    public string? CheckFile { get; init; }

    public string? JsonFile { get; init; }

    public string? JUnitFile { get; init; }

    public string? HtmlFile { get; init; }

    public int? Threads { get; init; }

    /// <summary>The request of another process, and where its answer goes.</summary>
    public (string Request, string Logits)? Fresh { get; init; }

    public static KernelSet Kernels(string provider) => provider == "batch-invariant" ? KernelSet.BatchInvariant : KernelSet.Stock;

    public DecoderModelOptions Decoder(string provider) => new()
    {
        Kernels = Kernels(provider),
        DeviceId = provider == "cuda" || (provider == "batch-invariant" && IsOnGpu) ? 0 : null,
        Threads = Threads,
    };
}
