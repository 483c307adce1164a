using System.Text.Json;
using OrtBatchInvariant.Conversion;

namespace OrtBatchInvariant.Cli.Commands;

/// <summary>The form that `ortbi inspect --json` prints.</summary>
internal static class InspectJson
{
    public static string Write(string file, ModelCoverage coverage, CoverageReport? session, IReadOnlyList<string> differences) => JsonSerializer.Serialize(
        new
        {
            Model = file,
            Provider = BatchInvariantProvider.Name,
            coverage.Device,
            coverage.InstructionSet,
            VaryingNodes = coverage.VaryingNodes.Count,
            Nodes = coverage.Nodes.Select(node => new
            {
                node.Coverage.Name,
                Graph = node.Node?.Graph ?? "",
                node.Coverage.Op,
                node.Coverage.Domain,
                node.Coverage.ServedBy,
                node.Coverage.Contract,
                node.Coverage.Reason,
                node.Coverage.CustomOp,
            }),
            Session = session is null ? null : new
            {
                Nodes = session.Nodes.Count,
                Kernels = session.Nodes.Count(node => node.HasKernel),
                Differences = differences,
            },
        },
        JsonFormat.Options);
}
