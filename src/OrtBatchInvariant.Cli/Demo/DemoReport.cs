using System.Globalization;
using OrtBatchInvariant.Verification.Experiments;
using Spectre.Console;

namespace OrtBatchInvariant.Cli.Demo;

/// <summary>What the demo prints.</summary>
internal static class DemoReport
{
    public static void Print(DemoResult result, IAnsiConsole console)
    {
        console.MarkupLine("[bold]How many different answers did one and the same prompt get?[/] Greedy decoding, so anything but 1 is wrong.");
        foreach (DemoModelResult model in result.Models)
        {
            console.WriteLine();
            console.Write(TableOf(model));
            if (model.Stock.Parting is { } parting)
            {
                PrintParting(parting, console);
            }
        }

        console.WriteLine();
        PrintVerdict(result, console);
    }

    /// <summary>A number of different answers, as a table shows it.</summary>
    public static string Count(int different) => different == 1 ? "[green]1[/]" : $"[red]{different}[/]";

    private static Table TableOf(DemoModelResult model)
    {
        var table = new Table()
            .Border(TableBorder.Rounded)
            .Title($"[bold]{Markup.Escape(model.Model.Title)}[/]")
            .AddColumns("Between runs, only this changes", "Completions", "Stock\nlogits", "\ntexts", "Batch-invariant\nlogits", "\ntexts");
        foreach (TableColumn column in table.Columns.Skip(1))
        {
            column.RightAligned();
        }

        foreach ((AxisResult stock, AxisResult ours) in model.Stock.Axes.Zip(model.BatchInvariant.Axes))
        {
            AddRow(table, stock, ours);
        }

        table.AddEmptyRow();
        AddRow(table, model.Stock.All, model.BatchInvariant.All);
        double ratio = model.BatchInvariant.TokensPerSecond / model.Stock.TokensPerSecond;
        table.AddRow(
            "tokens per second", "", Number(model.Stock.TokensPerSecond), "", Number(model.BatchInvariant.TokensPerSecond),
            ratio.ToString("'x'0.00", CultureInfo.InvariantCulture));
        return table;
    }

    private static void AddRow(Table table, AxisResult stock, AxisResult ours) => table.AddRow(
        Markup.Escape(stock.Description),
        Number(ours.Completions),
        Count(stock.UniqueLogits),
        Count(stock.UniqueCompletions),
        Count(ours.UniqueLogits),
        Count(ours.UniqueCompletions));

    private static void PrintParting(PartingTexts parting, IAnsiConsole console)
    {
        int common = parting.Alone.Zip(parting.Other).TakeWhile(pair => pair.First == pair.Second).Count();
        common = parting.Alone.LastIndexOf(' ', Math.Max(common - 1, 0)) + 1;
        console.MarkupLineInterpolated($"Stock, twice the same prompt: [grey]{OneLine(parting.Prompt)}[/]");
        int width = parting.OtherRun.Length;
        console.MarkupLineInterpolated(
            $"   {"alone".PadRight(width)}  [grey]…{OneLine(parting.Alone[..common])}[/][yellow]{OneLine(parting.Alone[common..])}[/]");
        console.MarkupLineInterpolated(
            $"   {parting.OtherRun}  [grey]…{OneLine(parting.Other[..common])}[/][yellow]{OneLine(parting.Other[common..])}[/]");
    }

    private static void PrintVerdict(DemoResult result, IAnsiConsole console)
    {
        string stock = $"Stock kernels gave one prompt up to {result.Models.Max(model => model.Stock.All.UniqueLogits)} different logits "
            + $"and {result.Models.Max(model => model.Stock.All.UniqueCompletions)} different texts.";
        if (!result.IsInvariant)
        {
            console.MarkupLineInterpolated(
                $"[red bold]FAILED[/] Batch-invariant kernels gave one prompt up to {result.Models.Max(model => model.BatchInvariant.All.UniqueLogits)} different logits. {stock}");
        }
        else if (!result.HasEnoughCompletions)
        {
            console.MarkupLineInterpolated(
                $"[red bold]FAILED[/] Only {Number(result.Completions)} completions ran; the claim needs {Number(result.RequiredCompletions)}.");
        }
        else
        {
            console.MarkupLineInterpolated(
                $"[green bold]PASSED[/] Batch-invariant kernels gave every prompt exactly one answer, to the byte, in {Number(result.Completions)} completions. {stock}");
        }

        console.MarkupLineInterpolated(
            $"[grey]{Number(result.Models.Sum(model => model.BatchInvariant.All.LogitsCompared))} logits compared; {result.Threads} threads; seed {result.Seed}; {result.Elapsed.TotalSeconds:F0} s.[/]");
    }

    private static string Number(double value) => value.ToString("N0", CultureInfo.InvariantCulture);

    private static string OneLine(string text) => text.ReplaceLineEndings(" ");
}
