using OrtBatchInvariant.Tests.Support;
using OrtBatchInvariant.Verification.Files;

namespace OrtBatchInvariant.Verification.Tests;

public sealed class AtomicTextTests : IDisposable
{
    private readonly TemporaryFolder _temporary = new();

    [Fact]
    public void ReplacesTheFileAndLeavesNothingElse()
    {
        string file = Path.Combine(_temporary.Path, "a.json");
        File.WriteAllText(file, "old");
        AtomicText.Write(file, "new");
        Assert.Equal("new", File.ReadAllText(file));
        Assert.Equal([file], Directory.EnumerateFileSystemEntries(_temporary.Path));
    }

    [Fact]
    public void FailureLeavesNothing()
    {
        string folder = Directory.CreateDirectory(Path.Combine(_temporary.Path, "folder")).FullName;
        Assert.Throws<VerificationException>(() => AtomicText.Write(folder, "text"));
        Assert.Equal([folder], Directory.EnumerateFileSystemEntries(_temporary.Path));
    }

    public void Dispose() => _temporary.Dispose();
}
