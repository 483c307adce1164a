using System.Reflection;
using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.GenAI.Tests.Support;

/// <summary>The demo model in the GenAI layout, exported once for all tests, which run one after the other.</summary>
[CollectionDefinition(Name)]
public sealed class DemoModels : IDisposable, ICollectionFixture<DemoModels>
{
    public const string Name = "demo models";

    private readonly TemporaryFolder _folder = new();

    public DemoModels()
    {
        Fp32 = Export("fp32", new ExportOptions { Precision = ExportPrecision.Fp32 });
        Int4 = Export("int4", new ExportOptions { Precision = ExportPrecision.Int4, AccuracyLevel = 0 });
    }

    /// <summary>A folder with the model in fp32.</summary>
    public string Fp32 { get; }

    /// <summary>A folder with the model in int4 that computes in fp32, where stock kernels do vary.</summary>
    public string Int4 { get; }

    /// <summary>The value of an item of this assembly's project file.</summary>
    internal static string Metadata(string key) =>
        typeof(DemoModels).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == key).Value!;

    /// <summary>A copy of a model folder in which one file was changed, or removed if <paramref name="change"/> returns null.</summary>
    internal static string CopyWith(string model, TemporaryFolder destination, string file, Func<byte[], byte[]?> change)
    {
        foreach (string source in Directory.EnumerateFiles(model))
        {
            byte[] content = File.ReadAllBytes(source);
            if ((Path.GetFileName(source) == file ? change(content) : content) is { } changed)
            {
                destination.Write(Path.GetFileName(source), changed);
            }
        }

        return destination.Path;
    }

    public void Dispose() => _folder.Dispose();

    private string Export(string name, ExportOptions options)
    {
        string path = Path.Combine(_folder.Path, name);
        ModelExporter.Export(Metadata("DemoModel"), path, options);
        return path;
    }
}
