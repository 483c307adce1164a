using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>One model opened in the ways that batches ask for: two at a time, since large models do not fit more often.</summary>
internal sealed class DecoderPool : IDisposable
{
    private DecoderModel? _other;

    public DecoderPool(ModelFolder folder, DecoderModelOptions options)
    {
        Options = options;
        Base = DecoderModel.Open(folder, options);
    }

    public DecoderModelOptions Options { get; }

    /// <summary>The model as it was asked for.</summary>
    public DecoderModel Base { get; }

    public DecoderModel For(BatchPlan plan)
    {
        DecoderModelOptions options = OptionsFor(plan);
        if (options == Options)
        {
            return Base;
        }

        if (_other?.Options != options)
        {
            ReleaseOther();
            _other = DecoderModel.Open(Base.Folder, options);
        }

        return _other;
    }

    public DecoderModelOptions OptionsFor(BatchPlan plan) => plan switch
    {
        { CudaGraph: true } => Options with { EnableCudaGraph = true },
        { SingleNodes: true } => Options with { FusesNodes = false },
        { Threads: { } threads } => Options with { Threads = threads },
        _ => Options,
    };

    /// <summary>Closes what is open beside <see cref="Base"/>.</summary>
    public void ReleaseOther()
    {
        _other?.Dispose();
        _other = null;
    }

    public void Dispose()
    {
        ReleaseOther();
        Base.Dispose();
    }
}
