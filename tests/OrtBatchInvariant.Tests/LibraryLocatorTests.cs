using OrtBatchInvariant.Internal;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Tests;

public sealed class LibraryLocatorTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void RuntimesFolderComesBeforeTheFolderItself()
    {
        string flat = _folder.Write("app/lib.so");
        Assert.Equal(flat, Locator(null, "app").Find());
        string runtimes = _folder.Write("app/runtimes/linux-x64/native/lib.so");
        Assert.Equal(runtimes, Locator(null, "app").Find());
    }

    [Fact]
    public void EarlierFolderComesFirst()
    {
        string second = _folder.Write("base/runtimes/linux-x64/native/lib.so");
        Assert.Equal(second, Locator(null, "assembly", "base").Find());
        string first = _folder.Write("assembly/lib.so");
        Assert.Equal(first, Locator(null, "assembly", "base").Find());
    }

    [Fact]
    public void OtherPlatformsAreNotTaken()
    {
        _folder.Write("app/runtimes/linux-arm64/native/lib.so");
        Assert.Throws<BatchInvariantException>(Locator(null, "app").Find);
    }

    [Fact]
    public void VariableComesBeforeEverything()
    {
        _folder.Write("app/lib.so");
        string chosen = _folder.Write("elsewhere/other.so");
        Assert.Equal(chosen, Locator(chosen, "app").Find());
    }

    [Fact]
    public void WrongVariableIsAnErrorAndNotSkipped()
    {
        _folder.Write("app/lib.so");
        var exception = Assert.Throws<BatchInvariantException>(Locator("/no/such/lib.so", "app").Find);
        Assert.Equal(
            "The environment variable ORT_BATCH_INVARIANT_LIBRARY names '/no/such/lib.so', which is not a file: correct or unset it.", exception.Message);
    }

    [Fact]
    public void MissingLibraryNamesEveryPlaceAndWhatToDo()
    {
        var exception = Assert.Throws<BatchInvariantException>(Locator("", "assembly", "base", "base").Find);
        Assert.Contains("lib.so was not found: build it with scripts/build-native.sh", exception.Message, StringComparison.Ordinal);
        Assert.Contains("ORT_BATCH_INVARIANT_LIBRARY", exception.Message, StringComparison.Ordinal);
        string[] places = exception.Message[(exception.Message.IndexOf("Looked for it at ", StringComparison.Ordinal) + 17)..].TrimEnd('.').Split(", ");
        Assert.Equal(
            new[] { "assembly/runtimes/linux-x64/native/lib.so", "assembly/lib.so", "base/runtimes/linux-x64/native/lib.so", "base/lib.so" }
                .Select(place => Path.Combine(_folder.Path, place)),
            places);
    }

    private LibraryLocator Locator(string? variable, params string[] folders) =>
        new(variable, [.. folders.Select(folder => Path.Combine(_folder.Path, folder))], "linux-x64", "lib.so");
}
