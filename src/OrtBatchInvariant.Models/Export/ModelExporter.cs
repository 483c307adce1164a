using OrtBatchInvariant.Models.Export.Graph;
using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Files;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Models.SafeTensors;

namespace OrtBatchInvariant.Models.Export;

/// <summary>
/// Exports decoder models of the Llama, Mistral, Qwen2, Qwen3, Phi-3, Gemma 2, Gemma 3, SmolLM3 and OLMo 2 families to the folder layout of ONNX Runtime GenAI:
/// <c>model.onnx</c>, <c>model.onnx.data</c>, <c>genai_config.json</c> and the tokenizer's files. Node patterns, names and
/// configuration keys are those of GenAI's model builder. Weights are converted piece by piece, never held whole, and the
/// folder appears under its name only when it is complete.
/// </summary>
public static class ModelExporter
{
    private const string ModelFileName = "model.onnx";

    /// <summary>Exports a Hugging Face model folder.</summary>
    /// <param name="checkpointFolder">Holds <c>config.json</c> and safetensors weights.</param>
    /// <param name="outputFolder">The folder to make.</param>
    /// <param name="options">Precision and form; fp32 by default.</param>
    /// <param name="progress">Told after each tensor.</param>
    /// <param name="cancellation">Stops the export; nothing is left then.</param>
    /// <exception cref="ModelException">
    /// The checkpoint is incomplete, damaged or of a kind that cannot be exported, or the output folder is taken.
    /// </exception>
    public static ExportResult Export(
        string checkpointFolder,
        string outputFolder,
        ExportOptions? options = null,
        IProgress<ExportProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        options?.Validate();
        var config = WithContextLength(HfConfig.Load(checkpointFolder), options);
        using var checkpoint = SafeTensorsCheckpoint.Open(checkpointFolder);
        var weights = new CheckpointWeights(checkpoint, config.TieWordEmbeddings, config.Family.IsTextOfVisionModel);
        return Write(
            config, weights, outputFolder, options, progress, cancellation,
            folder => TokenizerFiles.Copy(checkpointFolder, folder, config.ContextLength));
    }

    /// <summary>Exports a model of a well-known shape with random weights.</summary>
    /// <param name="like">One of <see cref="KnownShapes.Names"/>.</param>
    /// <param name="outputFolder">The folder to make; it has no tokenizer.</param>
    /// <param name="options">Precision and form; fp32 by default.</param>
    /// <param name="seed">Weights depend on it and on the shape only.</param>
    /// <param name="progress">Told after each tensor.</param>
    /// <param name="cancellation">Stops the export; nothing is left then.</param>
    /// <exception cref="ModelException">The shape is not known, or the output folder is taken.</exception>
    public static ExportResult ExportRandom(
        string like,
        string outputFolder,
        ExportOptions? options = null,
        ulong seed = 0,
        IProgress<ExportProgress>? progress = null,
        CancellationToken cancellation = default) =>
        ExportRandom(KnownShapes.Get(like), outputFolder, options, seed, progress, cancellation);

    /// <summary>Exports a model of any shape with random weights.</summary>
    /// <param name="config">The shape.</param>
    /// <param name="outputFolder">The folder to make; it has no tokenizer.</param>
    /// <param name="options">Precision and form; fp32 by default.</param>
    /// <param name="seed">Weights depend on it and on the shape only.</param>
    /// <param name="progress">Told after each tensor.</param>
    /// <param name="cancellation">Stops the export; nothing is left then.</param>
    /// <exception cref="ModelException">The shape is contradictory, or the output folder is taken.</exception>
    public static ExportResult ExportRandom(
        HfConfig config,
        string outputFolder,
        ExportOptions? options = null,
        ulong seed = 0,
        IProgress<ExportProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        config.Validate("The model shape");
        config = WithContextLength(config, options);
        return Write(
            config, new RandomWeights(seed, config.LayerCount, config.Family.NormWeightOffset), outputFolder, options, progress, cancellation, copyTokenizer: _ => []);
    }

    private static HfConfig WithContextLength(HfConfig config, ExportOptions? options)
    {
        if (options?.ContextLength is not { } length)
        {
            return config;
        }

        return length >= 1 && length <= config.ContextLength
            ? config with { ContextLength = length }
            : throw new ModelException($"Context length {length} cannot be used; the model's own is {config.ContextLength}.");
    }

    private static ExportResult Write(
        HfConfig config,
        IWeightSource weights,
        string outputFolder,
        ExportOptions? options,
        IProgress<ExportProgress>? progress,
        CancellationToken cancellation,
        Func<string, IReadOnlyList<string>> copyTokenizer)
    {
        options ??= new ExportOptions();
        options.Validate();
        return AtomicDirectory.Make(
            outputFolder, options.Overwrite, folder => Fill(folder, Path.GetFullPath(outputFolder), config, weights, options, progress, cancellation, copyTokenizer));
    }

    private static ExportResult Fill(
        string folder,
        string target,
        HfConfig config,
        IWeightSource weights,
        ExportOptions options,
        IProgress<ExportProgress>? progress,
        CancellationToken cancellation,
        Func<string, IReadOnlyList<string>> copyTokenizer)
    {
        var (model, pending) = DecoderGraph.Build(config, options, weights);

        var modelPath = Path.Combine(folder, ModelFileName);
        var dataName = $"{ModelFileName}.data";
        var total = pending.Sum(tensor => tensor.Bytes);
        using (var data = new AtomicFile(Path.Combine(folder, dataName)))
        {
            var writer = new ExternalDataWriter(data.Stream, dataName);
            var written = 0L;
            foreach (var tensor in pending)
            {
                cancellation.ThrowIfCancellationRequested();
                tensor.Write(writer, cancellation);
                written += tensor.Bytes;
                progress?.Report(new ExportProgress(tensor.Tensors[0].Name, written, total));
            }

            OnnxModel.WriteModel(model, modelPath, data);
        }

        var copied = copyTokenizer(folder);
        GenAIConfig.Write(Path.Combine(folder, "genai_config.json"), config, options, ModelFileName);
        return new ExportResult(target, model.Graph.Node.Count, total, copied);
    }
}
