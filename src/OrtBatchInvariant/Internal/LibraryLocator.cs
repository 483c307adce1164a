using System.Runtime.InteropServices;
using System.Text;

namespace OrtBatchInvariant.Internal;

/// <summary>Looks for the native library.</summary>
/// <param name="variableValue">The value of the environment variable, or null if it is not set.</param>
/// <param name="folders">The folders to look in, in order.</param>
/// <param name="runtimeIdentifier">The platform's folder name under <c>runtimes/</c>.</param>
/// <param name="fileName">What the library is called on this platform.</param>
internal sealed class LibraryLocator(string? variableValue, IReadOnlyList<string> folders, string runtimeIdentifier, string fileName)
{
    internal static LibraryLocator ForThisProcess() => new(
        Environment.GetEnvironmentVariable(BatchInvariantProvider.LibraryVariable),
        AssemblyFolders(),
        RuntimeIdentifier(),
        FileName());

    internal string Find()
    {
        if (!string.IsNullOrEmpty(variableValue))
        {
            return File.Exists(variableValue)
                ? Path.GetFullPath(variableValue)
                : throw new BatchInvariantException(
                    $"The environment variable {BatchInvariantProvider.LibraryVariable} names '{variableValue}', which is not a file: correct or unset it.");
        }

        string[] candidates =
        [
            .. folders
                .SelectMany(folder => new[] { Path.Combine(folder, "runtimes", runtimeIdentifier, "native", fileName), Path.Combine(folder, fileName) })
                .Select(Path.GetFullPath)
                .Distinct(),
        ];
        return candidates.FirstOrDefault(File.Exists) ?? throw new BatchInvariantException(NotFound(candidates));
    }

    private static IReadOnlyList<string> AssemblyFolders()
    {
        // An assembly inside a single file has no location.
#pragma warning disable IL3000
        string location = typeof(LibraryLocator).Assembly.Location;
#pragma warning restore IL3000
        return string.IsNullOrEmpty(location)
            ? [AppContext.BaseDirectory]
            : [Path.GetDirectoryName(location)!, AppContext.BaseDirectory];
    }

    // RuntimeInformation.RuntimeIdentifier can name a distribution, which no package folder does.
    private static string RuntimeIdentifier()
    {
        string system = OperatingSystem.IsWindows() ? "win" : OperatingSystem.IsMacOS() ? "osx" : "linux";
        return $"{system}-{RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant()}";
    }

    private static string FileName() =>
        OperatingSystem.IsWindows() ? "ort_batch_invariant.dll"
        : OperatingSystem.IsMacOS() ? "libort_batch_invariant.dylib"
        : "libort_batch_invariant.so";

    private string NotFound(IEnumerable<string> candidates)
    {
        var message = new StringBuilder($"The native library {fileName} was not found: build it with scripts/build-native.sh, reference the package ");
        message.Append($"OrtBatchInvariant, or set {BatchInvariantProvider.LibraryVariable} to its full path. Looked for it at ");
        return message.AppendJoin(", ", candidates).Append('.').ToString();
    }
}
