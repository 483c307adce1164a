using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Hosting;

/// <summary>The same model with different numbers of threads, of which two are loaded at a time.</summary>
internal sealed class HostedModelPool : IDisposable
{
    private readonly HostOptions _options;
    private HostedModel? _other;

    public HostedModelPool(ModelFolder folder, HostOptions options)
    {
        _options = options;
        Base = HostedModel.Load(folder, options);
        BaseRunner = new CompletionRunner(Base);
    }

    public HostedModel Base { get; }

    public CompletionRunner BaseRunner { get; }

    /// <summary>The runner for a number of threads; null for the one that was asked for.</summary>
    public CompletionRunner Runner(int? threads)
    {
        if (threads is null || threads == _options.Threads)
        {
            return BaseRunner;
        }

        if (_other?.Options.Threads != threads)
        {
            _other?.Dispose();
            _other = null;
            _other = HostedModel.Load(Base.Folder, _options with { Threads = threads });
        }

        return new CompletionRunner(_other!);
    }

    public void Dispose()
    {
        _other?.Dispose();
        Base.Dispose();
    }
}
