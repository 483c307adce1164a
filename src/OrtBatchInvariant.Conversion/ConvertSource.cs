using OrtBatchInvariant.Models;

namespace OrtBatchInvariant.Conversion;

/// <summary>What is converted: a folder with a configuration of GenAI, or a model file.</summary>
internal sealed class ConvertSource
{
    private ConvertSource(string folder, GenAIConfigFile? config, IReadOnlyList<string> modelFiles)
    {
        Folder = folder;
        Config = config;
        ModelFiles = modelFiles;
    }

    /// <summary>The folder of the model, as a full path.</summary>
    internal string Folder { get; }

    /// <summary>The configuration; null for a model file.</summary>
    internal GenAIConfigFile? Config { get; }

    internal bool IsFolder => Config is not null;

    /// <summary>The model files, relative to the folder.</summary>
    internal IReadOnlyList<string> ModelFiles { get; }

    /// <exception cref="ModelException">There is no such model, or its configuration names files that are not in its folder.</exception>
    internal static ConvertSource Open(string path)
    {
        string full = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        if (File.Exists(full))
        {
            return full.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase)
                ? new ConvertSource(Path.GetDirectoryName(full)!, null, [Path.GetFileName(full)])
                : throw new ModelException($"{path}: is neither an .onnx file nor a model folder.");
        }

        if (!Directory.Exists(full))
        {
            throw new ModelException($"{path}: no such model folder or file.");
        }

        GenAIConfigFile config = GenAIConfigFile.Read(full)
            ?? throw new ModelException($"{path}: holds no {GenAIConfigFile.Name}; name the .onnx file itself to convert one without it.");
        foreach (string file in config.ModelFiles)
        {
            if (file.Split('/', '\\').Contains("..") || Path.IsPathRooted(file))
            {
                throw new ModelException($"{Path.Combine(path, GenAIConfigFile.Name)}: names '{file}', which is outside the model's folder.");
            }

            if (!File.Exists(Path.Combine(full, file)))
            {
                throw new ModelException($"{Path.Combine(path, file)}: no such model file, though {GenAIConfigFile.Name} names it.");
            }
        }

        return new ConvertSource(full, config, config.ModelFiles);
    }

    /// <summary>Every other file of the folder and of those in it, relative to it.</summary>
    internal IEnumerable<string> OtherFiles(IReadOnlySet<string> except)
    {
        foreach (string folder in Directory.EnumerateDirectories(Folder, "*", SearchOption.AllDirectories))
        {
            if (new DirectoryInfo(folder).LinkTarget is not null)
            {
                throw new ModelException($"{folder}: is a link to a folder; put the folder itself there, or take it out.");
            }
        }

        return Directory.EnumerateFiles(Folder, "*", SearchOption.AllDirectories)
            .Select(file => Path.GetRelativePath(Folder, file))
            .Where(file => !except.Contains(file));
    }
}
