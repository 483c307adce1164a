using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>What processors are called.</summary>
public static class Processor
{
    private const string CpuInfo = "/proc/cpuinfo";

    /// <summary>The CPU, as the system has it.</summary>
    public static string Name { get; } = !File.Exists(CpuInfo) ? RuntimeInformation.ProcessArchitecture.ToString() : File.ReadLines(CpuInfo)
        .FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))?.Split(':', 2)[1].Trim()
        ?? RuntimeInformation.ProcessArchitecture.ToString();

    // ONNX Runtime knows the vendor and the PCI device, not what it is sold as.
    internal static string GpuName(OrtEpDevice device) =>
        $"{device.HardwareDevice.Vendor} GPU {device.HardwareDevice.DeviceId.ToString("x4", CultureInfo.InvariantCulture)}".Trim();
}
