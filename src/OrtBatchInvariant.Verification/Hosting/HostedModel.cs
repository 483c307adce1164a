using System.Globalization;
using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.GenAI;

namespace OrtBatchInvariant.Verification.Hosting;

/// <summary>A model that GenAI has loaded, with stock or with batch-invariant kernels.</summary>
/// <remarks>The process needs an <see cref="OgaHandle"/>, made before the first model and disposed after the last.</remarks>
public sealed class HostedModel : IDisposable
{
    private readonly Config _config;
    private Tokenizer? _tokenizer;

    private HostedModel(ModelFolder folder, HostOptions options, Config config, Model model)
    {
        Folder = folder;
        Options = options;
        _config = config;
        Model = model;
    }

    /// <summary>Where it was loaded from.</summary>
    public ModelFolder Folder { get; }

    /// <summary>How it was loaded.</summary>
    public HostOptions Options { get; }

    /// <summary>GenAI's model.</summary>
    public Model Model { get; }

    /// <summary>GenAI's tokenizer for it.</summary>
    /// <exception cref="VerificationException">The folder has no tokenizer, or one that GenAI cannot read.</exception>
    public Tokenizer Tokenizer
    {
        get
        {
            if (_tokenizer is null)
            {
                if (!Folder.HasTokenizer)
                {
                    throw new VerificationException($"{Folder.Path}: has no tokenizer.json, so it takes token ids only and no text.");
                }

                try
                {
                    _tokenizer = new Tokenizer(Model);
                }
                catch (OnnxRuntimeGenAIException exception)
                {
                    throw new VerificationException($"{Folder.Path}: GenAI cannot read its tokenizer ({OneLine(exception)}).", exception);
                }
            }

            return _tokenizer;
        }
    }

    /// <summary>Which kernel serves each node.</summary>
    /// <exception cref="BatchInvariantException">The model was loaded with stock kernels.</exception>
    public CoverageReport CoverageReport => Model.GetCoverageReport(_config);

    /// <summary>Loads a model.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="options">How to load it.</param>
    /// <exception cref="VerificationException">GenAI or the provider refused the model; the message holds theirs.</exception>
    /// <exception cref="BatchInvariantException">The provider's library is missing or cannot be used.</exception>
    public static HostedModel Load(ModelFolder folder, HostOptions options)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(options);
        if (options.Threads is < 1)
        {
            throw new VerificationException($"The number of threads is {options.Threads}: use 1 or more.");
        }

        OnnxRuntimeLibrary.LoadFirst();
        Config? config = null;
        try
        {
            config = new Config(folder.Path);
            if (options.Kernels == KernelSet.BatchInvariant)
            {
                config.UseBatchInvariant(new BatchInvariantGenAIOptions { Strict = options.Strict, IntraOpThreads = options.Threads });
            }
            else if (options.Threads is { } threads)
            {
                config.Overlay(string.Create(
                    CultureInfo.InvariantCulture,
                    $$"""{ "model": { "decoder": { "session_options": { "intra_op_num_threads": {{threads}} } } } }"""));
            }

            return new HostedModel(folder, options, config, new Model(config));
        }
        catch (OnnxRuntimeGenAIException exception)
        {
            config?.Dispose();
            throw new VerificationException($"{folder.Path}: cannot be loaded ({OneLine(exception)}).", exception);
        }
        catch
        {
            config?.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _tokenizer?.Dispose();
        Model.Dispose();
        _config.Dispose();
    }

    internal static string OneLine(Exception exception) => exception.Message.ReplaceLineEndings(" ").Trim().TrimEnd('.');
}
