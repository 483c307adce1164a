namespace OrtBatchInvariant.Cli;

/// <summary>Calls back on the reporting thread, at once and in order, which <see cref="Progress{T}"/> does not.</summary>
internal sealed class DirectProgress<T>(Action<T> report) : IProgress<T>
{
    public void Report(T value) => report(value);
}
