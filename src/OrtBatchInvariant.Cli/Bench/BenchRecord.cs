using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.Json;
using OrtBatchInvariant.Verification.Benchmarks;

namespace OrtBatchInvariant.Cli.Bench;

/// <summary>The file that `ortbi bench --json` writes, in the form of every benchmark record of this repository.</summary>
internal static class BenchRecord
{
    public static string Write(IReadOnlyList<BenchmarkRow> rows, int threads, string onnxRuntimeVersion) => JsonSerializer.Serialize(
        new
        {
            Device = $"{ProcessorName()}, {threads} threads, {BatchInvariantProvider.InstructionSet.ToString().ToLowerInvariant()}",
            Date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
            Command = $"ortbi {string.Join(' ', Environment.GetCommandLineArgs().Skip(1).Select(Path.GetFileName))}",
            Commit = Commit(),
            Onnxruntime = onnxRuntimeVersion,
            Rows = rows,
        },
        JsonFormat.Options);

    private static string ProcessorName()
    {
        const string cpuInfo = "/proc/cpuinfo";
        string? model = !File.Exists(cpuInfo) ? null : File.ReadLines(cpuInfo)
            .FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))?.Split(':', 2)[1].Trim();
        return model ?? RuntimeInformation.ProcessArchitecture.ToString();
    }

    // The SDK appends the commit to the informational version: 0.1.0+<commit>.
    private static string Commit() =>
        typeof(BenchRecord).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+') is [_, var commit]
            ? commit : "";
}
