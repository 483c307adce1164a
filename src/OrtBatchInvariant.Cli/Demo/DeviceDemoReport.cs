using System.Globalization;
using System.Text.Json;
using OrtBatchInvariant.Verification.Device;
using Spectre.Console;

namespace OrtBatchInvariant.Cli.Demo;

/// <summary>What `ortbi demo --device cuda` prints, and the form that `--json` writes.</summary>
internal static class DeviceDemoReport
{
    private sealed record Counts(int Completions, int UniqueLogits, int UniqueCompletions, long LogitsCompared, int Batches, double TokensPerSecond);

    public static void Print(DeviceDemoResult result, IAnsiConsole console)
    {
        console.MarkupLine("[bold]How many different answers did one and the same prompt get?[/] Greedy decoding, so anything but 1 is wrong.");
        var table = new Table()
            .Border(TableBorder.Rounded)
            .Title($"[bold]{Markup.Escape(result.Device)}[/]")
            .AddColumns("One prompt among random neighbours", "Kernels", "Completions", "Batches", "Logits", "Texts", "Tokens per second");
        foreach (TableColumn column in table.Columns.Skip(2))
        {
            column.RightAligned();
        }

        foreach (DeviceDemoModelResult model in result.Models)
        {
            if (model.Stock is { } stock)
            {
                AddRow(table, model.Model.Title, "stock", stock);
            }

            AddRow(table, model.Stock is null ? model.Model.Title : "", "batch-invariant", model.BatchInvariant);
        }

        console.Write(table);
        if (result.Models.Any(model => model.Stock is null))
        {
            console.MarkupLineInterpolated(
                $"[yellow]Stock kernels were not run:[/] put ONNX Runtime's CUDA provider beside ONNX Runtime, or name its library in {StockCuda.LibraryVariable}.");
        }

        string found = result.Passed
            ? $"PASSED[/] Batch-invariant kernels gave the prompt exactly one answer, to the byte, in {Number(result.Models.Sum(model => model.BatchInvariant.Completions))} completions."
            : $"FAILED[/] Batch-invariant kernels gave the prompt up to {result.Models.Max(model => model.BatchInvariant.UniqueLogits)} different logits.";
        console.MarkupLine($"{(result.Passed ? "[green bold]" : "[red bold]")}{found}");
        string selfTest = result.SelfTest.Length > 0 ? $"start-up self-test: {result.SelfTest}; " : "";
        console.MarkupLineInterpolated(
            $"[grey]{Number(result.Models.Sum(model => model.BatchInvariant.LogitsCompared))} logits compared; {selfTest}seed {result.Seed}; {result.Elapsed.TotalSeconds:F0} s.[/]");
    }

    public static string ToJson(DeviceDemoResult result) => JsonSerializer.Serialize(
        new
        {
            result.Passed,
            Date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
            result.Device,
            result.SelfTest,
            result.Seed,
            Seconds = Math.Round(result.Elapsed.TotalSeconds, 1),
            Models = result.Models.Select(model => new
            {
                Name = model.Model.Title,
                Folder = model.Model.Folder.Path,
                Stock = CountsOf(model.Stock),
                BatchInvariant = CountsOf(model.BatchInvariant),
            }),
        },
        JsonFormat.Options);

    private static void AddRow(Table table, string title, string kernels, DeviceCompletionsResult result) => table.AddRow(
        Markup.Escape(title), kernels, Number(result.Completions), Number(result.Batches), DemoReport.Count(result.UniqueLogits),
        DemoReport.Count(result.UniqueCompletions), Number((long)TokensPerSecond(result)));

    private static Counts? CountsOf(DeviceCompletionsResult? result) => result is null
        ? null
        : new Counts(
            result.Completions, result.UniqueLogits, result.UniqueCompletions, result.LogitsCompared, result.Batches, Math.Round(TokensPerSecond(result), 1));

    private static double TokensPerSecond(DeviceCompletionsResult result) => result.GeneratedTokens / result.Elapsed.TotalSeconds;

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
