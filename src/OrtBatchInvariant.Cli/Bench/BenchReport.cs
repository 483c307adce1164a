using System.Globalization;
using OrtBatchInvariant.Verification.Benchmarks;
using Spectre.Console;

namespace OrtBatchInvariant.Cli.Bench;

/// <summary>What `ortbi bench` prints: ratios, stock time over ours, so that more than 1 means ours is faster.</summary>
internal static class BenchReport
{
    private const double Slow = 0.7;

    public static void Print(IReadOnlyList<BenchmarkRow> rows, MachinePeaks peaks, int threads, IAnsiConsole console)
    {
        console.MarkupLine("[bold]Stock time / ours[/]: above 1 ours is faster. The slowest cell of a table is underlined; below 0.7 is red.");
        PrintOps([.. rows.Where(row => row.Subject == "op")], console);
        PrintModels("Tokens per second, GenAI's loop", "Batch", [.. rows.Where(row => row.Subject == "generate")],
            row => ($"{row.Rows}", row.PeerTokensPerSecond, row.TokensPerSecond), console);
        PrintModels("Tokens of a prompt per second, to its first token", "Prompt", [.. rows.Where(row => row.Subject == "prompt")],
            row => ($"{row.Rows}", row.PeerTokensPerSecond, row.TokensPerSecond), console);
        PrintModels("Loading, milliseconds", "Until", [.. rows.Where(row => row.Subject == "load")],
            row => (row.Shape["until ".Length..], row.PeerMicroseconds / 1000, row.Microseconds / 1000), console);
        PrintModels("Most memory of a process, MB", "When", [.. rows.Where(row => row.Subject == "memory")],
            row => (row.Shape, row.PeerMegabytes, row.Megabytes), console);
        console.MarkupLineInterpolated(CultureInfo.InvariantCulture,
            $"[grey]{threads} threads; measured peaks: {peaks.FlopsPerSecond / 1e9:F0} GFLOP/s (fp32), {peaks.BytesPerSecond / 1e9:F1} GB/s.[/]");
    }

    private static void PrintOps(IReadOnlyList<BenchmarkRow> rows, IAnsiConsole console)
    {
        foreach (IGrouping<string, BenchmarkRow> op in rows.GroupBy(row => row.Op))
        {
            int[] rowCounts = [.. op.Select(row => row.Rows).Distinct().Order()];
            double worst = op.Min(row => row.Ratio);
            var table = new Table().Border(TableBorder.Rounded).Title($"[bold]{Markup.Escape(op.Key)}[/]").AddColumns("Type", "Shape");
            foreach (int count in rowCounts)
            {
                table.AddColumn(new TableColumn($"M={count}").RightAligned());
            }

            foreach (var shape in op.GroupBy(row => (row.Dtype, row.Shape)))
            {
                string[] cells = [.. rowCounts.Select(count => shape.FirstOrDefault(row => row.Rows == count) is { } row ? Ratio(row.Ratio, worst) : "")];
                table.AddRow([Markup.Escape(shape.Key.Dtype), Markup.Escape(shape.Key.Shape), .. cells]);
            }

            console.Write(table);
        }
    }

    private static void PrintModels(
        string title, string variable, IReadOnlyList<BenchmarkRow> rows, Func<BenchmarkRow, (string Value, double? Stock, double? Ours)> cells, IAnsiConsole console)
    {
        if (rows.Count == 0)
        {
            return;
        }

        double worst = rows.Min(row => row.Ratio);
        var table = new Table().Border(TableBorder.Rounded).Title($"[bold]{title}[/]")
            .AddColumns("Model", variable, "Stock", "Batch-invariant", "Ratio");
        foreach (TableColumn column in table.Columns.Skip(1))
        {
            column.RightAligned();
        }

        foreach (BenchmarkRow row in rows)
        {
            (string value, double? stock, double? ours) = cells(row);
            table.AddRow(Markup.Escape(row.Op), Markup.Escape(value), Number(stock), Number(ours), Ratio(row.Ratio, worst));
        }

        console.Write(table);
    }

    private static string Number(double? value) => value?.ToString("N0", CultureInfo.InvariantCulture) ?? "";

    private static string Ratio(double ratio, double worst)
    {
        string style = ratio >= 1 ? "green" : ratio >= Slow ? "yellow" : "red";
        return string.Create(CultureInfo.InvariantCulture, $"[{style}{(ratio == worst ? " underline" : "")}]{ratio:F2}[/]");
    }
}
