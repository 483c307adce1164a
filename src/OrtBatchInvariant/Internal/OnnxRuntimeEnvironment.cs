using Microsoft.ML.OnnxRuntime;

namespace OrtBatchInvariant.Internal;

/// <summary>ONNX Runtime's environment, with a sentence instead of a loader's riddle when ONNX Runtime is missing.</summary>
internal static class OnnxRuntimeEnvironment
{
    internal static OrtEnv Instance()
    {
        try
        {
            return OrtEnv.Instance();
        }
        catch (Exception exception) when (exception is TypeInitializationException or DllNotFoundException or EntryPointNotFoundException)
        {
            throw new BatchInvariantException(
                "The native library of ONNX Runtime is missing or does not match its managed API: reference the package Microsoft.ML.OnnxRuntime "
                + $"(or Microsoft.ML.OnnxRuntime.Gpu) from the executable ({(exception.InnerException ?? exception).Message.ReplaceLineEndings(" ").TrimEnd('.', ' ')}).",
                exception);
        }
    }
}
