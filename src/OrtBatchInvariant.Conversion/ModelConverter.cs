using Google.Protobuf;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Models.Files;
using OrtBatchInvariant.Models.Onnx;

namespace OrtBatchInvariant.Conversion;

/// <summary>
/// Makes models that any ONNX Runtime host runs batch-invariantly, without the provider: their nodes are custom ops, and the library
/// that has these lies beside them.
/// </summary>
public static class ModelConverter
{
    // What the library is called where: a folder may have been converted on another system.
    private static readonly string[] s_libraryNames = ["libort_batch_invariant.so", "libort_batch_invariant.dylib", "ort_batch_invariant.dll"];

    /// <summary>
    /// Writes a converted copy of a model. The output folder appears when it is complete; a conversion that fails, or is killed,
    /// leaves nothing under its name. A converted model is copied as it is.
    /// </summary>
    /// <param name="input">A model folder in the layout of ONNX Runtime GenAI, or an <c>.onnx</c> file.</param>
    /// <param name="output">The folder to make.</param>
    /// <param name="options">How.</param>
    /// <param name="progress">Told how far it is.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <exception cref="ModelException">The model is broken or has, if strict, nodes that would still vary; or the output is in the way.</exception>
    /// <exception cref="BatchInvariantException">The provider's library is missing or cannot be used.</exception>
    public static ConvertResult Convert(
        string input, string output, ConvertOptions options, IProgress<ConvertProgress>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        string libraryPath = BatchInvariantProvider.GetLibraryPath();
        ConvertSource source = ConvertSource.Open(input);
        if (source.IsFolder && IsInside(output, source.Folder))
        {
            throw new ModelException($"{output}: lies inside {source.Folder}, which is to be converted; choose a folder elsewhere.");
        }

        IReadOnlyList<ConvertedModel> models = AtomicDirectory.Make(
            output, options.Overwrite, folder => Fill(folder, source, input, libraryPath, options, progress, cancellation));
        string full = Path.GetFullPath(output);
        return new ConvertResult(full, [.. models.Select(model => model with { File = Path.Combine(full, model.File) })]);
    }

    private static List<ConvertedModel> Fill(
        string folder, ConvertSource source, string input, string libraryPath, ConvertOptions options, IProgress<ConvertProgress>? progress,
        CancellationToken cancellation)
    {
        string library = Path.GetFileName(libraryPath);
        var copy = new FolderCopy(source.Folder, folder, options.Link, progress, cancellation);
        var skipped = new HashSet<string>(source.ModelFiles, StringComparer.Ordinal) { GenAIConfigFile.Name };
        skipped.UnionWith(s_libraryNames);
        copy.Plan(source.IsFolder ? source.OtherFiles(skipped) : [], linked: false);

        var models = new List<ConvertedModel>();
        foreach (string file in source.ModelFiles)
        {
            cancellation.ThrowIfCancellationRequested();
            OnnxModel model = OnnxModel.Load(Path.Combine(source.Folder, file));
            copy.Plan(model.ExternalFiles(), linked: true);
            string target = copy.Prepare(file);
            models.Add(options.Revert ? Revert(model, file, target) : Convert(model, file, target, options));
        }

        if (options.Revert && models.All(model => model.ChangedNodes == 0))
        {
            throw new ModelException($"{input}: has no converted node, so there is nothing to turn back.");
        }

        if (source.Config is { } config)
        {
            File.WriteAllBytes(
                Path.Combine(folder, GenAIConfigFile.Name),
                options.Revert ? s_libraryNames.Aggregate(config, (current, name) => current.WithoutLibrary(name)).Content : config.WithLibrary(library).Content);
        }

        copy.Run();
        if (!options.Revert)
        {
            File.Copy(libraryPath, Path.Combine(folder, library));
        }

        cancellation.ThrowIfCancellationRequested();
        return models;
    }

    private static ConvertedModel Convert(OnnxModel model, string file, string target, ConvertOptions options)
    {
        ModelCoverage before = ModelCoverage.Of(model, options.ForCuda);
        int changed = GraphRewriter.Convert(model, before);
        ModelCoverage after = changed == 0 ? before : ModelCoverage.Of(model, options.ForCuda);
        CoverageNode[] varying = [.. after.Nodes.Select(Left).OfType<CoverageNode>()];
        if (options.Strict && varying is [var first, ..])
        {
            string others = varying.Length == 1 ? "" : $" and {varying.Length - 1} other{(varying.Length == 2 ? "" : "s")}";
            throw new ModelException(
                $"{model.Path}: node '{first.Name}' ({Name(first)}: {first.Reason}){others} would still vary with the batch; change the model, or allow it with --no-strict.");
        }

        Write(model, target);
        return new ConvertedModel(file, changed, after.Nodes.Count(node => node.Coverage.Domain == BatchInvariantProvider.CustomOpDomain), varying);
    }

    /// <summary>What is left to a stock kernel that varies: also a node that only the provider has a kernel for.</summary>
    private static CoverageNode? Left(NodeCoverage node) => node.Coverage switch
    {
        { ServedBy: ServedBy.StockVarying } => node.Coverage,
        { ServedBy: ServedBy.BatchInvariant } coverage when coverage.Domain != BatchInvariantProvider.CustomOpDomain => coverage with
        {
            ServedBy = ServedBy.StockVarying,
            Reason = "this form of the op, or its types, are served by the provider only, not by a custom op",
        },
        _ => null,
    };

    private static ConvertedModel Revert(OnnxModel model, string file, string target)
    {
        GraphCheck.Check(model);
        int changed = GraphRewriter.Revert(model);
        Write(model, target);
        return new ConvertedModel(file, changed, 0, []);
    }

    private static void Write(OnnxModel model, string target)
    {
        using FileStream stream = File.Create(target);
        model.Proto.WriteTo(stream);
    }

    private static string Name(CoverageNode node) => node.Domain.Length > 0 ? $"{node.Domain}.{node.Op}" : node.Op;

    private static bool IsInside(string path, string folder)
    {
        string relative = Path.GetRelativePath(Path.GetFullPath(folder), Path.GetFullPath(path));
        return relative != "." && !Path.IsPathRooted(relative) && relative.Split(Path.DirectorySeparatorChar)[0] != "..";
    }
}
