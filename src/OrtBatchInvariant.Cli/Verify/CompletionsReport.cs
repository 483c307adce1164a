using System.Globalization;
using OrtBatchInvariant.Verification.Audit.Serving;
using Spectre.Console;

namespace OrtBatchInvariant.Cli.Verify;

/// <summary>What `ortbi verify --completions` prints.</summary>
internal static class CompletionsReport
{
    private const int TextsShown = 3;

    public static void Print(IReadOnlyList<ServingResult> results, IAnsiConsole console)
    {
        if (results is not [var first, ..])
        {
            return;
        }

        var table = new Table().Border(TableBorder.Rounded)
            .Title($"[bold]One prompt, again and again[/]: {first.PromptTokens} + {first.NewTokens} tokens, {Markup.Escape(first.Arrivals)} arrivals, up to {first.LargestBatch} together")
            .AddColumns("Kernels", "Tokens chosen by", "Completions", "Distinct\nlogits", "\ntexts", "Logits differ\nfrom token", "Texts part\nat token", "Tokens\nper second");
        foreach (TableColumn column in table.Columns.Skip(2))
        {
            column.RightAligned();
        }

        foreach (ServingResult result in results)
        {
            foreach (DecodingResult decoding in result.Decodings)
            {
                table.AddRow(
                    Markup.Escape(result.Kernels), Markup.Escape(decoding.Decoding), Number(decoding.Completions),
                    Count(decoding.DistinctLogits), Count(decoding.DistinctTexts), Token(decoding.FirstDifferentLogits), Token(decoding.FirstDifferentToken),
                    Number(result.TokensPerSecond));
            }
        }

        console.Write(table);
        foreach (ServingResult result in results)
        {
            foreach (DecodingResult decoding in result.Decodings.Where(decoding => decoding is { DistinctTexts: > 1, Answers.Texts: not null }))
            {
                PrintTexts(result.Kernels, decoding, console);
            }
        }

        foreach (ServingResult result in results)
        {
            string seen = result.Engine is not null ? "" : string.Create(
                CultureInfo.InvariantCulture,
                $", {result.LogitsCompared:N0} logits compared; {result.Shapes:N0} shapes of runs{(result.PadsToBuckets ? ", to which they were padded" : "")}");
            console.MarkupLineInterpolated(CultureInfo.InvariantCulture,
                $"[grey]{result.Kernels}: {result.Requests:N0} requests, {result.Preemptions:N0} times put back into the queue, {result.GeneratedTokens:N0} tokens{seen}; {result.Seconds:F0} s, seed {result.Seed}{(result.IsComplete ? "" : "; stopped before the end")}.[/]");
        }
    }

    private static void PrintTexts(string kernels, DecodingResult decoding, IAnsiConsole console)
    {
        DistinctAnswers answers = decoding.Answers!;
        console.MarkupLineInterpolated($"{kernels}, {decoding.Decoding}, what the one prompt got:");
        int[] most = [.. Enumerable.Range(0, answers.Texts!.Count).OrderByDescending(answers.CompletionsWith).ThenBy(text => text)];
        foreach (int text in most.Take(TextsShown))
        {
            console.MarkupLineInterpolated($"  {Number(answers.CompletionsWith(text)),5} times [yellow]{answers.Texts[text].ReplaceLineEndings(" ").Trim()}[/]");
        }

        if (most.Length > TextsShown)
        {
            console.MarkupLineInterpolated($"  {Number(most.Skip(TextsShown).Sum(answers.CompletionsWith)),5} times {most.Length - TextsShown} other texts");
        }
    }

    private static string Count(int? different) => different is null ? "[grey]not seen[/]" : different == 1 ? "[green]1[/]" : $"[red]{Number(different.Value)}[/]";

    private static string Token(int? index) => index is { } token ? Number(token + 1) : "";

    private static string Number(double value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
