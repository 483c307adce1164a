using System.Diagnostics;

namespace OrtBatchInvariant.GenAI;

/// <summary>The copies of ONNX Runtime's native library in this process.</summary>
internal static class OnnxRuntimeImages
{
    /// <summary>
    /// GenAI finds ONNX Runtime by a search of its own. If that led to another copy than ours, the provider is registered with the
    /// one and looked for in the other.
    /// </summary>
    internal static void ThrowIfSeveral()
    {
        using var process = Process.GetCurrentProcess();
        string[] images = [.. Select(process.Modules.Cast<ProcessModule>().Select(module => module.FileName))];
        if (images.Length > 1)
        {
            throw new BatchInvariantException(
                $"ONNX Runtime is loaded {images.Length} times in this process, from {string.Join(" and ", images)}: remove all copies but one, "
                + "or call BatchInvariantProvider.Register() before the first use of GenAI.");
        }
    }

    internal static IEnumerable<string> Select(IEnumerable<string?> moduleFiles) => moduleFiles
        .OfType<string>()
        .Where(file => Path.GetFileName(file) is "onnxruntime.dll" or "libonnxruntime.dylib" || Path.GetFileName(file).StartsWith("libonnxruntime.so", StringComparison.Ordinal))
        .Distinct();
}
