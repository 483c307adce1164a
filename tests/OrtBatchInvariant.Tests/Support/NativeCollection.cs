namespace OrtBatchInvariant.Tests.Support;

/// <summary>Tests that use the process's one registration of the native library: they run one after the other.</summary>
[CollectionDefinition(Name)]
public sealed class NativeCollection
{
    public const string Name = "native";
}
