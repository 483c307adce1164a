using System.CommandLine;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Conversion;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Hosting;
using Spectre.Console;

namespace OrtBatchInvariant.Cli.Commands;

/// <summary>`ortbi inspect`: what serves each node of a model file, checked against what a session then does.</summary>
internal static class InspectCommand
{
    public static Command Create()
    {
        var model = new Argument<string>("MODEL") { Description = "A GenAI model folder, or an .onnx file." };
        var json = new Option<bool>("--json") { Description = "Print every node as JSON." };
        Option<string> device = Arguments.PlannedDevice();
        var noSession = new Option<bool>("--no-session") { Description = "Leave out the check against a session, which loads the weights. There is none for --device cuda." };
        var command = new Command("inspect", "Show what serves each node of a model, and why not. Exit code 3 if any node can vary.") { model, json, device, noSession };
        command.SetAction(parsed => Run(parsed.GetRequiredValue(model), parsed.GetValue(json), parsed.GetValue(device) == "cuda", !parsed.GetValue(noSession)));
        return command;
    }

    private static int Run(string path, bool json, bool onCuda, bool checkSession)
    {
        string file = Path.GetExtension(path).Equals(".onnx", StringComparison.OrdinalIgnoreCase) && !Directory.Exists(path)
            ? path
            : ModelFolder.Open(path).DecoderFile;
        OnnxRuntimeLibrary.LoadFirst();
        ModelCoverage coverage = ModelCoverage.Of(OnnxModel.Load(file), onCuda);
        CoverageReport? session = checkSession && !onCuda ? ReadSession(file) : null;
        IReadOnlyList<string> differences = session is null ? [] : coverage.Compare(session);
        if (json)
        {
            Console.WriteLine(InspectJson.Write(file, coverage, session, differences));
        }
        else
        {
            Print(file, coverage, session, differences);
        }

        return coverage.VaryingNodes.Count == 0 && differences.Count == 0 ? ExitCode.Success : ExitCode.Varies;
    }

    private static CoverageReport ReadSession(string file)
    {
        using var options = new SessionOptions();
        options.AppendBatchInvariant(new BatchInvariantOptions { Strict = false });
        options.RegisterCustomOpLibraryV2(BatchInvariantProvider.GetLibraryPath(), out _);
        try
        {
            using var session = new InferenceSession(file, options);
            return CoverageReport.ForSession(options);
        }
        catch (OnnxRuntimeException exception)
        {
            throw new ModelException(
                $"{file}: ONNX Runtime cannot load it ({exception.Message.ReplaceLineEndings(" ").Trim().TrimEnd('.')}).", exception);
        }
    }

    private static void Print(string file, ModelCoverage coverage, CoverageReport? session, IReadOnlyList<string> differences)
    {
        var table = new Table().Border(TableBorder.Rounded).AddColumns("Op", "Nodes", "Served by", "Contract");
        table.Columns[1].RightAligned();
        CoverageNode[] nodes = [.. coverage.Nodes.Select(node => node.Coverage)];
        foreach (var group in nodes.GroupBy(node => (node.Op, node.Domain, node.ServedBy, node.Contract)))
        {
            string op = Markup.Escape(group.Key.Domain.Length > 0 ? $"{group.Key.Domain}.{group.Key.Op}" : group.Key.Op);
            table.AddRow(op, $"{group.Count()}", Served(group.Key.ServedBy), Markup.Escape(group.Key.Contract));
        }

        Terminal.Out.Write(table);
        foreach (CoverageNode node in nodes.Where(node => node.ServedBy == ServedBy.StockInvariant && node.Reason.Length > 0))
        {
            Terminal.Out.MarkupLineInterpolated($"[yellow]note[/]    {node.Name} ({node.Op}): {node.Reason}");
        }

        foreach ((NodeInfo? info, CoverageNode node) in coverage.VaryingNodes)
        {
            string where = info is { Graph.Length: > 0 } ? $" in {info.Graph}" : "";
            Terminal.Out.MarkupLineInterpolated($"[red]varies[/]  {node.Name} ({node.Op}){where}: {node.Reason}");
        }

        foreach (string difference in differences)
        {
            Terminal.Out.MarkupLineInterpolated($"[red]differs[/] {difference}");
        }

        Terminal.Out.MarkupLineInterpolated(
            $"{file}: {nodes.Length} nodes on {coverage.Device} ({coverage.InstructionSet}): {nodes.Count(node => node.ServedBy == ServedBy.BatchInvariant)} batch-invariant, {nodes.Count(node => node.ServedBy == ServedBy.StockInvariant)} stock that do not vary, {coverage.VaryingNodes.Count} stock that can vary.");
        if (session is not null)
        {
            string verdict = differences.Count == 0 ? "as the file says" : "otherwise than the file says";
            Terminal.Out.MarkupLineInterpolated(
                $"A session assigned its {session.Nodes.Count} nodes {verdict}, and made {session.Nodes.Count(node => node.HasKernel)} kernels of the provider.");
        }
    }

    private static string Served(ServedBy servedBy) => servedBy switch
    {
        ServedBy.BatchInvariant => "[green]batch-invariant[/]",
        ServedBy.StockInvariant => "[green]stock, does not vary[/]",
        _ => "[red]stock, can vary[/]",
    };
}
