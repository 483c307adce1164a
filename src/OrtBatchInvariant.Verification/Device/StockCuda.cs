using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>ONNX Runtime's own CUDA provider, where it is installed as a plug-in beside ONNX Runtime.</summary>
public static class StockCuda
{
    /// <summary>The provider's name.</summary>
    public const string Name = "CUDAExecutionProvider";

    /// <summary>The environment variable that, if set, holds the full path of the provider's library.</summary>
    public const string LibraryVariable = "ORT_CUDA_PROVIDER_LIBRARY";

    private static readonly Lock s_lock = new();

    /// <summary>The provider's devices in the order of CUDA, registering its library if need be; empty where there is none.</summary>
    public static IReadOnlyList<OrtEpDevice> Devices()
    {
        lock (s_lock)
        {
            OrtEnv environment = OrtEnv.Instance();
            List<OrtEpDevice> devices = Find(environment);
            if (devices.Count == 0 && LibraryPath() is { } path)
            {
                CheckVersion(path);
                try
                {
                    environment.RegisterExecutionProviderLibrary(Name, path);
                }
                catch (OnnxRuntimeException exception)
                {
                    throw new VerificationException(
                        $"{path}: ONNX Runtime's CUDA provider cannot be loaded ({exception.Message.ReplaceLineEndings(" ").TrimEnd('.', ' ')}).", exception);
                }

                devices = Find(environment);
            }

            return devices;
        }
    }

    internal static OrtEpDevice Device(int deviceId)
    {
        IReadOnlyList<OrtEpDevice> devices = Devices();
        return deviceId < devices.Count
            ? devices[deviceId]
            : throw new VerificationException(
                $"GPU {deviceId} is asked for with stock kernels, but ONNX Runtime's CUDA provider offers {devices.Count} here: put its library beside ONNX Runtime's or name it in {LibraryVariable}.");
    }

    // The provider uses ONNX Runtime's own C++ types: one of another version hangs or ends the process, without a word.
    private static void CheckVersion(string provider)
    {
        string runtime = Path.Combine(Path.GetDirectoryName(provider)!, OperatingSystem.IsWindows() ? "onnxruntime.dll" : "libonnxruntime.so");
        if (VersionOf(runtime) is { } version && version != OrtEnv.Instance().GetVersionString())
        {
            throw new VerificationException(
                $"{provider}: beside it lies ONNX Runtime {version}, but {OrtEnv.Instance().GetVersionString()} runs here, and ONNX Runtime's CUDA provider works with its own version alone: name one of the same version in {LibraryVariable}, or unset it to leave stock kernels out.");
        }
    }

    // OrtApiBase holds two functions: GetApi, then GetVersionString.
    private static unsafe string? VersionOf(string runtime)
    {
        if (!NativeLibrary.TryLoad(runtime, out nint library) || !NativeLibrary.TryGetExport(library, "OrtGetApiBase", out nint getBase))
        {
            return null;
        }

        nint* api = ((delegate* unmanaged<nint*>)getBase)();
        return Marshal.PtrToStringUTF8(((delegate* unmanaged<nint>)api[1])());
    }

    private static List<OrtEpDevice> Find(OrtEnv environment) => [.. environment.GetEpDevices().Where(device => device.EpName == Name)];

    private static string? LibraryPath()
    {
        if (Environment.GetEnvironmentVariable(LibraryVariable) is { Length: > 0 } named)
        {
            return File.Exists(named)
                ? Path.GetFullPath(named)
                : throw new VerificationException($"{LibraryVariable} names '{named}', which is not a file: correct or unset it.");
        }

        string file = OperatingSystem.IsWindows() ? "onnxruntime_providers_cuda.dll" : "libonnxruntime_providers_cuda.so";
        string beside = Path.Combine(AppContext.BaseDirectory, file);
        return File.Exists(beside) ? beside : null;
    }
}
