using System.Globalization;
using OrtBatchInvariant.Verification.Audit;
using Spectre.Console;

namespace OrtBatchInvariant.Cli.Verify;

/// <summary>What `ortbi verify` prints.</summary>
internal static class AuditReport
{
    private const int BlamedNodes = 12;

    public static void Print(AuditResult result, IAnsiConsole console)
    {
        var table = new Table().Border(TableBorder.Rounded).Width(Terminal.ProseWidth)
            .Title($"[bold]{Markup.Escape(result.Subject.Model)}, {Markup.Escape(result.Subject.Provider)}[/]")
            .AddColumns("The text alone, against", "Logits compared", "different", "by this alone", "max ulp", "max diff", "argmax flips", "text parts at");
        foreach (TableColumn column in table.Columns.Skip(1))
        {
            column.RightAligned();
        }

        foreach (AuditAxisResult axis in result.Axes)
        {
            string style = axis.Varies ? "red" : axis.ElementsCompared > 0 ? "green" : "grey";
            table.AddRow(
                $"{Markup.Escape(axis.Name)}: [grey]{Markup.Escape(axis.Values)}[/]",
                Number(axis.ElementsCompared),
                $"[{style}]{(axis.ElementsCompared > 0 ? Number(axis.ElementsDifferent) : "not run")}[/]",
                axis.Varies ? Number(axis.BaselineDifferent) : "",
                axis.Varies ? Number(axis.MaxUlp) : "",
                axis.Varies ? axis.MaxLogitDifference.ToString("G3", CultureInfo.InvariantCulture) : "",
                axis.Varies ? $"{Number(axis.ArgmaxFlips)} of {Number(axis.PositionsCompared)}" : "",
                axis.FirstParting is { } token ? $"token {token + 1}" : "");
        }

        // Of two counts, which only an axis that varies has.
        if (result.Axes.Any(axis => axis.Varies))
        {
            table.Caption($"[grey]{Markup.Escape(AuditResult.ComparedWith)}[/]");
        }

        console.Write(table);
        foreach (AuditAxisResult axis in result.Axes.Where(axis => axis.NotRun is not null))
        {
            console.MarkupLineInterpolated($"[grey]{axis.Name}: {axis.NotRun}[/]");
        }

        foreach (BlameResult blame in result.Blames)
        {
            PrintBlame(blame, isWhole: blame == result.Blame, console);
        }

        PrintVerdict(result, console);
    }

    // Of the axis whose logits differ most with its nodes, of the others in two lines.
    private static void PrintBlame(BlameResult blame, bool isWhole, IAnsiConsole console)
    {
        console.MarkupLineInterpolated($"[bold]Blame[/], {blame.Axis}: {blame.Batch}, against {blame.Against}{(blame.GraphOptimizations ? "" : "; graph optimisations off")}");
        if (blame.First is { } first)
        {
            console.MarkupLineInterpolated($"First node that differs: [red]{first.Name}[/] ({first.Op}, {first.Provider}) {first.Shapes}");
        }

        if (blame.Introducing.Count > 0 && !isWhole)
        {
            console.MarkupLineInterpolated($"[grey]Given equal inputs, these differ: {AuditMessage.Ops(blame)}[/]");
        }
        else if (blame.Introducing.Count > 0)
        {
            var table = new Table().Border(TableBorder.Rounded).AddColumns("Given equal inputs, differs", "Op", "Provider", "different", "max ulp", "relative");
            foreach (TableColumn column in table.Columns.Skip(3))
            {
                column.RightAligned();
            }

            foreach (BlamedNode node in blame.Introducing.Take(BlamedNodes))
            {
                table.AddRow(
                    Markup.Escape(node.Name), Markup.Escape(node.Op), Markup.Escape(node.Provider),
                    $"{Number(node.ElementsDifferent)} of {Number(node.ElementsCompared)}", Number(node.MaxUlp),
                    node.RelativeDifference.ToString("E1", CultureInfo.InvariantCulture));
            }

            console.Write(table);
            if (blame.Introducing.Count > BlamedNodes)
            {
                console.MarkupLineInterpolated($"[grey]and {blame.Introducing.Count - BlamedNodes} more nodes; in all {AuditMessage.Ops(blame)}[/]");
            }
        }

        if (blame.Note is not null)
        {
            console.MarkupLineInterpolated($"[yellow]{blame.Note}[/]");
        }
    }

    private static void PrintVerdict(AuditResult result, IAnsiConsole console)
    {
        long compared = result.Axes.Sum(axis => axis.ElementsCompared);
        string verdict = !result.IsComplete ? "[yellow bold]STOPPED[/]" : result.IsInvariant ? "[green bold]INVARIANT[/]" : "[red bold]VARIES[/]";
        console.Markup(verdict);
        console.MarkupLineInterpolated(
            $" {Number(result.Axes.Sum(axis => axis.ElementsDifferent))} of {Number(compared)} logits differ along {result.Axes.Count(axis => axis.Varies)} of {result.Axes.Count(axis => axis.ElementsCompared > 0)} axes; {result.Seconds:F0} s, seed {result.Seed}.");
        if (result.Axes.Where(axis => axis is { Varies: true, BaselineDifferent: > 0 }).Select(axis => axis.Name).ToArray() is { Length: > 0 } own)
        {
            console.MarkupLineInterpolated($"What makes a difference by itself: {string.Join(", ", own)}.");
        }
    }

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
