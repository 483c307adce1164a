using Microsoft.ML.OnnxRuntime;

namespace OrtBatchInvariant.Verification.Hosting;

/// <summary>ONNX Runtime's native library, which must be loaded before GenAI looks for one.</summary>
public static class OnnxRuntimeLibrary
{
    /// <summary>
    /// Loads it if it is not loaded, and then silences its log: errors come as exceptions. GenAI takes the copy that it finds loaded;
    /// left to its own search it can find none and end the process.
    /// </summary>
    /// <exception cref="VerificationException">It is missing or does not match the managed API.</exception>
    public static void LoadFirst()
    {
        try
        {
            if (!OrtEnv.IsCreated)
            {
                var options = new EnvironmentCreationOptions { logId = "ort-batch-invariant", logLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL };
                OrtEnv.CreateInstanceWithOptions(ref options);
            }
        }
        catch (Exception exception) when (exception is TypeInitializationException or DllNotFoundException or EntryPointNotFoundException)
        {
            throw new VerificationException(
                $"The native library of ONNX Runtime is missing or does not match its managed API ({HostedModel.OneLine(exception.InnerException ?? exception)}).",
                exception);
        }
    }
}
