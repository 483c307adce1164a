using System.Security.Cryptography;
using System.Text;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Cli.Demo;

/// <summary>The demo model of this repository, exported when it is first needed and kept in the user's cache.</summary>
internal static class DemoCheckpoint
{
    private static readonly string s_relativePath = Path.Combine("models", "demo");

    private static readonly TimeSpan s_unusedAfter = TimeSpan.FromDays(14);

    private static readonly (string Name, string Title, ExportOptions Options)[] s_exports =
    [
        ("int4", "int4 weights, accuracy_level 4 (GenAI's default on CPUs)", new ExportOptions { Precision = ExportPrecision.Int4, AccuracyLevel = 4 }),
        ("int4-fp32-activations", "int4 weights, accuracy_level 0", new ExportOptions { Precision = ExportPrecision.Int4, AccuracyLevel = 0 }),
        ("fp32", "fp32", new ExportOptions { Precision = ExportPrecision.Fp32 }),
    ];

    private static readonly (string Name, string Title, ExportOptions Options)[] s_cudaExports =
    [
        ("cuda-fp16", "fp16", new ExportOptions { Precision = ExportPrecision.Fp16, Target = ExportTarget.Cuda }),
        ("cuda-int4", "int4 weights", new ExportOptions { Precision = ExportPrecision.Int4, Target = ExportTarget.Cuda, AccuracyLevel = 0 }),
    ];

    /// <summary>The demo model in each precision that is common on CPUs.</summary>
    public static IReadOnlyList<DemoModel> Export(CancellationToken cancellation) => Export(s_exports, cancellation);

    /// <summary>The demo model in each precision that is common on GPUs.</summary>
    public static IReadOnlyList<DemoModel> ExportForCuda(CancellationToken cancellation) => Export(s_cudaExports, cancellation);

    private static IReadOnlyList<DemoModel> Export((string Name, string Title, ExportOptions Options)[] exports, CancellationToken cancellation)
    {
        string checkpoint = Find();
        string root = Path.Combine(CacheRoot(), "ortbi");
        string cache = Path.Combine(root, Digest(checkpoint));
        Directory.CreateDirectory(cache);
        Directory.SetLastWriteTimeUtc(cache, DateTime.UtcNow);
        RemoveUnused(root);
        return
        [
            .. exports.Select(export => new DemoModel(
                export.Title, ModelFolder.Open(Export(checkpoint, Path.Combine(cache, export.Name), export.Options, cancellation)))),
        ];
    }

    private static string Export(string checkpoint, string output, ExportOptions options, CancellationToken cancellation)
    {
        if (!Directory.Exists(output))
        {
            try
            {
                ModelExporter.Export(checkpoint, output, options, cancellation: cancellation);
            }
            catch (ModelException) when (Directory.Exists(output))
            {
                // Another process was faster; a folder under its name is complete.
            }
        }

        return output;
    }

    // Every version of the exporter has a folder of its own; those of versions no longer run would stay for ever.
    private static void RemoveUnused(string root)
    {
        foreach (DirectoryInfo folder in new DirectoryInfo(root).EnumerateDirectories())
        {
            if (DateTime.UtcNow - folder.LastWriteTimeUtc > s_unusedAfter)
            {
                try
                {
                    folder.Delete(recursive: true);
                }
                catch (Exception error) when (error is IOException or UnauthorizedAccessException)
                {
                    // In use or not ours: the next run tries again.
                }
            }
        }
    }

    private static string Find()
    {
        string[] starts = [AppContext.BaseDirectory, Environment.CurrentDirectory];
        return starts.SelectMany(Ancestors)
            .Select(folder => Path.Combine(folder, s_relativePath))
            .FirstOrDefault(folder => File.Exists(Path.Combine(folder, "config.json")))
            ?? throw new ModelException($"The demo model, {s_relativePath}, is neither beside the tool nor in a folder above {Environment.CurrentDirectory}: name a model with --model.");
    }

    private static IEnumerable<string> Ancestors(string folder)
    {
        for (DirectoryInfo? at = new(folder); at is not null; at = at.Parent)
        {
            yield return at.FullName;
        }
    }

    // What the export depends on: the checkpoint and the code that exports it.
    private static string Digest(string checkpoint)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(typeof(ModelExporter).Module.ModuleVersionId.ToByteArray());
        foreach (string file in Directory.EnumerateFiles(checkpoint).Order(StringComparer.Ordinal))
        {
            hash.AppendData(Encoding.UTF8.GetBytes(Path.GetFileName(file)));
            using FileStream stream = File.OpenRead(file);
            hash.AppendData(SHA256.HashData(stream));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset())[..16];
    }

    private static string CacheRoot()
    {
        string? root = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
        root = string.IsNullOrEmpty(root) ? Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData) : root;
        return root.Length > 0 ? root : Path.GetTempPath();
    }
}

/// <summary>A model that the demo runs.</summary>
/// <param name="Title">What the report calls it.</param>
/// <param name="Folder">Where it is.</param>
internal sealed record DemoModel(string Title, ModelFolder Folder);
