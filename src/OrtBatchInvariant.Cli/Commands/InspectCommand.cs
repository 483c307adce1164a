using System.CommandLine;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Hosting;
using Spectre.Console;

namespace OrtBatchInvariant.Cli.Commands;

/// <summary>`ortbi inspect`: which kernel serves each node of a model, as a session really assigned them.</summary>
internal static class InspectCommand
{
    public static Command Create()
    {
        var model = new Argument<string>("MODEL") { Description = "A GenAI model folder, or an .onnx file." };
        var json = new Option<bool>("--json") { Description = "Print every node as JSON." };
        var command = new Command("inspect", "Show what serves each node of a model, and why not. Exit code 3 if any node can vary.") { model, json };
        command.SetAction(parsed => Run(parsed.GetRequiredValue(model), parsed.GetValue(json)));
        return command;
    }

    private static int Run(string path, bool json)
    {
        string file = Path.GetExtension(path).Equals(".onnx", StringComparison.OrdinalIgnoreCase) && !Directory.Exists(path)
            ? path
            : ModelFolder.Open(path).DecoderFile;
        CoverageReport report = ReadReport(file);
        if (report.Nodes.Count == 0)
        {
            throw new VerificationException($"{file}: has no nodes to inspect.");
        }

        if (json)
        {
            Console.WriteLine(InspectJson.Write(file, report));
        }
        else
        {
            Print(file, report);
        }

        return report.VaryingNodes.Count == 0 ? ExitCode.Success : ExitCode.Varies;
    }

    private static CoverageReport ReadReport(string file)
    {
        if (!File.Exists(file))
        {
            throw new VerificationException($"{file}: no such model file.");
        }

        OnnxRuntimeLibrary.LoadFirst();
        using var options = new SessionOptions();
        options.AppendBatchInvariant(new BatchInvariantOptions { Strict = false });
        try
        {
            using var session = new InferenceSession(file, options);
            return CoverageReport.ForSession(options);
        }
        catch (OnnxRuntimeException exception)
        {
            throw new VerificationException(
                $"{file}: ONNX Runtime cannot load it ({exception.Message.ReplaceLineEndings(" ").Trim().TrimEnd('.')}).", exception);
        }
    }

    private static void Print(string file, CoverageReport report)
    {
        var table = new Table().Border(TableBorder.Rounded).AddColumns("Op", "Nodes", "Served by", "Contract");
        table.Columns[1].RightAligned();
        foreach (var group in report.Nodes.GroupBy(node => (node.Op, node.Domain, node.ServedBy, node.Contract)))
        {
            string op = Markup.Escape(group.Key.Domain.Length > 0 ? $"{group.Key.Domain}.{group.Key.Op}" : group.Key.Op);
            table.AddRow(op, $"{group.Count()}", Served(group.Key.ServedBy), Markup.Escape(group.Key.Contract));
        }

        Terminal.Out.Write(table);
        foreach (CoverageNode node in report.VaryingNodes)
        {
            Terminal.Out.MarkupLineInterpolated($"[red]varies[/]  {node.Name} ({node.Op}): {node.Reason}");
        }

        Terminal.Out.MarkupLineInterpolated($"{file}: {report}.");
    }

    private static string Served(ServedBy servedBy) => servedBy switch
    {
        ServedBy.BatchInvariant => "[green]batch-invariant[/]",
        ServedBy.StockInvariant => "[green]stock, does not vary[/]",
        _ => "[red]stock, can vary[/]",
    };
}
