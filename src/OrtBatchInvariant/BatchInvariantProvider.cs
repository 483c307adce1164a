using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Internal;

namespace OrtBatchInvariant;

/// <summary>Finds the native library of the batch-invariant execution provider and registers it with ONNX Runtime.</summary>
/// <remarks>All members are thread safe.</remarks>
public static class BatchInvariantProvider
{
    /// <summary>The name of the execution provider, as sessions and GenAI configurations give it.</summary>
    public const string Name = "BatchInvariantExecutionProvider";

    /// <summary>The name under which <see cref="Register"/> registers the library with ONNX Runtime.</summary>
    public const string RegistrationName = "BatchInvariant";

    /// <summary>The domain of the library's custom ops, which hosts without the provider run.</summary>
    public const string CustomOpDomain = "ort.batch_invariant";

    /// <summary>The environment variable that, if set, holds the full path of the native library.</summary>
    public const string LibraryVariable = "ORT_BATCH_INVARIANT_LIBRARY";

    private static readonly Lock s_lock = new();
    private static bool s_registered;

    /// <summary>The version of the native library.</summary>
    /// <exception cref="BatchInvariantException">The library is missing or is not this provider's.</exception>
    public static string Version
    {
        get
        {
            NativeLibraryFile.Load(null);
            return Marshal.PtrToStringUTF8(Interop.BatchInvariant.Version()) ?? "";
        }
    }

    /// <summary>The CPU kernels that this process uses unless a session asks for others.</summary>
    /// <exception cref="BatchInvariantException">The library is missing or is not this provider's.</exception>
    public static CpuInstructionSet InstructionSet
    {
        get
        {
            NativeLibraryFile.Load(null);
            string name = Marshal.PtrToStringUTF8(Interop.BatchInvariant.InstructionSet()) ?? "";
            return Enum.TryParse(name, ignoreCase: true, out CpuInstructionSet set)
                ? set
                : throw new BatchInvariantException($"The native library uses an instruction set, '{name}', that this version does not know.");
        }
    }

    /// <summary>The operators that count as invariant by nature whatever their types; others do only on whole numbers.</summary>
    /// <exception cref="BatchInvariantException">The library is missing or is not this provider's.</exception>
    public static IReadOnlyList<InvariantOperator> InvariantOperators
    {
        get
        {
            NativeLibraryFile.Load(null);
            string json = NativeText.Read(Interop.BatchInvariant.GetInvariantOps)
                ?? throw new BatchInvariantException("The native library gave no list of invariant operators.");
            return JsonSerializer.Deserialize(json, CoverageReportJsonContext.Default.IReadOnlyListInvariantOperator)!;
        }
    }

    /// <summary>The full path of the native library.</summary>
    /// <remarks>
    /// The path in the environment variable <see cref="LibraryVariable"/> if that is set; otherwise the first that exists of
    /// <c>runtimes/&lt;rid&gt;/native/</c> and the folder itself, for the folder of this assembly and then
    /// <see cref="AppContext.BaseDirectory"/>.
    /// </remarks>
    /// <exception cref="BatchInvariantException">There is no library; the message lists where it was looked for.</exception>
    public static string GetLibraryPath() => LibraryLocator.ForThisProcess().Find();

    /// <summary>The name of the only execution provider in the library: <see cref="Name"/>.</summary>
    public static string GetEpName() => Name;

    /// <summary>The names of the execution providers in the library: <see cref="Name"/> alone.</summary>
    public static string[] GetEpNames() => [Name];

    /// <summary>Registers the native library with ONNX Runtime. Does nothing if that was done before.</summary>
    /// <param name="environment">The environment to register with; by default the process's own, which is created if need be.</param>
    /// <param name="libraryPath">The native library; by default <see cref="GetLibraryPath"/>.</param>
    /// <exception cref="BatchInvariantException">ONNX Runtime or the library is missing, is too old, or cannot be loaded, or
    /// another file is registered already.</exception>
    public static void Register(OrtEnv? environment = null, string? libraryPath = null)
    {
        lock (s_lock)
        {
            if (s_registered && libraryPath is null)
            {
                return;
            }

            environment ??= OnnxRuntimeEnvironment.Instance();

            // Someone may have registered the library without us, under any name: then that very file is the one to talk to.
            if (Devices(environment).Select(LibraryPathOf).FirstOrDefault() is { } registeredPath)
            {
                if (libraryPath is not null && Path.GetFullPath(libraryPath) != Path.GetFullPath(registeredPath))
                {
                    throw new BatchInvariantException(
                        $"The batch-invariant provider is registered from '{registeredPath}', so '{libraryPath}' cannot be registered as well: unregister the first.");
                }

                NativeLibraryFile.Load(registeredPath);
                return;
            }

            string path = NativeLibraryFile.Load(libraryPath);
            try
            {
                environment.RegisterExecutionProviderLibrary(RegistrationName, path);
            }
            catch (OnnxRuntimeException exception)
            {
                throw new BatchInvariantException(
                    $"ONNX Runtime {environment.GetVersionString()} did not accept the batch-invariant provider '{path}': {exception.Message}", exception);
            }

            s_registered = true;
        }
    }

    /// <summary>
    /// Takes the registration of <see cref="Register"/> back. Dispose every session that uses the provider first. Does nothing if
    /// there is no registration.
    /// </summary>
    /// <param name="environment">The environment to unregister from; by default the process's own.</param>
    public static void Unregister(OrtEnv? environment = null)
    {
        lock (s_lock)
        {
            if (!s_registered)
            {
                return;
            }

            (environment ?? OnnxRuntimeEnvironment.Instance()).UnregisterExecutionProviderLibrary(RegistrationName);
            s_registered = false;
        }
    }

    /// <summary>Number of GPUs that the provider can run on; it must be registered.</summary>
    internal static int CountGpus() =>
        Devices(OnnxRuntimeEnvironment.Instance()).Count(device => device.HardwareDevice.Type == OrtHardwareDeviceType.GPU);

    /// <summary>The device to run on: the CPU, or the GPU that CUDA counts as <see cref="BatchInvariantOptions.DeviceId"/>.</summary>
    internal static OrtEpDevice FindDevice(OrtEnv environment, int? deviceId)
    {
        OrtHardwareDeviceType type = deviceId is null ? OrtHardwareDeviceType.CPU : OrtHardwareDeviceType.GPU;
        OrtEpDevice[] devices = [.. Devices(environment).Where(device => device.HardwareDevice.Type == type)];
        return devices.FirstOrDefault(device => deviceId is null || CudaDeviceIdOf(device) == deviceId) ?? throw new BatchInvariantException(deviceId is null
            ? "The batch-invariant provider offers no CPU device on this machine."
            : $"{nameof(BatchInvariantOptions.DeviceId)} is {deviceId}, but the batch-invariant provider sees {devices.Length} GPUs here: use null for the CPU.");
    }

    private static IEnumerable<OrtEpDevice> Devices(OrtEnv environment) =>
        environment.GetEpDevices().Where(device => device.EpName == Name);

    // ONNX Runtime lists GPUs in an order of its own; the library says which one each is.
    private static int? CudaDeviceIdOf(OrtEpDevice device) =>
        device.EpMetadata.Entries.TryGetValue("cuda_device_id", out string? id) ? int.Parse(id, CultureInfo.InvariantCulture) : null;

    private static string? LibraryPathOf(OrtEpDevice device) => device.EpMetadata.Entries.GetValueOrDefault("library_path");
}
