using System.Diagnostics;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Internal;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Tests;

public sealed class NativeLibraryFileTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void MissingFile()
    {
        string path = Path.Combine(_folder.Path, "none.so");
        Assert.Equal($"The native library '{path}' does not exist.", MessageOf(path));
    }

    [Fact]
    public void FileThatIsNoLibrary()
    {
        string path = _folder.Write("text.so", "not a library"u8);
        Assert.StartsWith($"'{path}' cannot be loaded as a native library: rebuild it with scripts/build-native.sh", MessageOf(path), StringComparison.Ordinal);
    }

    /// <summary>In a cut-off library the loader would die of a bus error, without a message.</summary>
    [Theory]
    [InlineData(10)]
    [InlineData(1000)]
    [InlineData(-1)]
    public void TruncatedLibrary(int length)
    {
        byte[] library = File.ReadAllBytes(BatchInvariantProvider.GetLibraryPath());
        string path = _folder.Write("half.so", library.AsSpan(0, length < 0 ? library.Length + length : length));
        Assert.Equal($"The native library '{path}' is cut off: copy it again, or rebuild it with scripts/build-native.sh.", MessageOf(path));
    }

    [Fact]
    public void LibraryOfSomethingElse()
    {
        _ = OrtEnv.Instance();
        using var process = Process.GetCurrentProcess();
        string path = process.Modules.Cast<ProcessModule>().Select(module => module.FileName).First(file => Path.GetFileName(file).Contains("onnxruntime.", StringComparison.Ordinal) && !file.EndsWith("Microsoft.ML.OnnxRuntime.dll", StringComparison.Ordinal));
        Assert.Equal($"'{path}' is not the batch-invariant provider of this version: it does not export CreateEpFactories.", MessageOf(path));
    }

    private static string MessageOf(string path) => Assert.Throws<BatchInvariantException>(() => NativeLibraryFile.Open(path)).Message;
}
