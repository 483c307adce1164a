namespace OrtBatchInvariant.Verification.Device;

/// <summary>What <see cref="DeviceInvariance"/> runs.</summary>
public sealed record DeviceInvarianceOptions
{
    /// <summary>Tokens of the prompt.</summary>
    /// <value>The default is 150, more than one block of 128 keys.</value>
    public int PromptTokens { get; init; } = 150;

    /// <summary>Tokens that follow the prompt.</summary>
    /// <value>The default is 16.</value>
    public int NewTokens { get; init; } = 16;

    /// <summary>The largest batch.</summary>
    /// <value>The default is 64.</value>
    public int MaxRows { get; init; } = 64;

    /// <summary>Whether each axis takes few values instead of many.</summary>
    public bool IsQuick { get; init; }

    /// <summary>What the text and its neighbours are drawn from.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Tokens whose embeddings are NaN or infinite: only neighbours get them.</summary>
    public IReadOnlyList<int> HostileTokens { get; init; } = [];
}
