using System.Text.Json;

namespace OrtBatchInvariant.Cli.Commands;

/// <summary>The form that `ortbi inspect --json` prints.</summary>
internal static class InspectJson
{
    public static string Write(string file, CoverageReport report) => JsonSerializer.Serialize(
        new
        {
            Model = file,
            report.Provider,
            report.Device,
            report.InstructionSet,
            VaryingNodes = report.VaryingNodes.Count,
            report.Nodes,
        },
        JsonFormat.Options);
}
