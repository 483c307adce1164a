namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>Tests that use the process's one registration of the native library: they run one after the other.</summary>
[CollectionDefinition(Name)]
public sealed class ProviderCollection
{
    public const string Name = "batch-invariant provider";
}
