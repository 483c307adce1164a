using System.Globalization;
using System.Reflection;
using System.Text.Json;
using OrtBatchInvariant.Verification.Benchmarks;
using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Cli.Bench;

/// <summary>The file that `ortbi bench --json` writes, in the form of every benchmark record of this repository.</summary>
internal static class BenchRecord
{
    public static string Write(IReadOnlyList<BenchmarkRow> rows, int threads, string onnxRuntimeVersion) => JsonSerializer.Serialize(
        new
        {
            Device = $"{Processor.Name}, {threads} threads, {BatchInvariantProvider.InstructionSet.ToString().ToLowerInvariant()}",
            Date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
            Command = $"ortbi {string.Join(' ', Environment.GetCommandLineArgs().Skip(1).Select(Path.GetFileName))}",
            Commit = Commit(),
            Onnxruntime = onnxRuntimeVersion,
            Rows = rows,
        },
        JsonFormat.Options);

    // The SDK appends the commit to the informational version: 0.1.0+<commit>.
    private static string Commit() =>
        typeof(BenchRecord).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+') is [_, var commit]
            ? commit : "";
}
