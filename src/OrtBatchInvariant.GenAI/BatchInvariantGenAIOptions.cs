namespace OrtBatchInvariant.GenAI;

/// <summary>What a GenAI model asks of the batch-invariant provider.</summary>
public sealed class BatchInvariantGenAIOptions : BatchInvariantOptions
{
    /// <summary>The number of threads that one operator may use.</summary>
    /// <value>The default is <see langword="null"/>: the model's own setting, and without one GenAI's choice, half of the processors
    /// and at most 16. Any number gives the same bytes.</value>
    public int? IntraOpThreads { get; set; }

    /// <summary>Providers to list after the batch-invariant one, by GenAI's names, for example <c>cuda</c>.</summary>
    /// <value>The default is none. They get the nodes that the batch-invariant provider leaves, and <c>cuda</c> makes GenAI keep
    /// inputs and KV cache in GPU memory.</value>
    public IReadOnlyList<string> FollowingProviders { get; set; } = [];
}
