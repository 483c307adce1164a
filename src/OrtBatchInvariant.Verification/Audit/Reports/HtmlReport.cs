using System.Globalization;
using System.Net;
using System.Text;
using OrtBatchInvariant.Verification.Audit.Serving;

namespace OrtBatchInvariant.Verification.Audit.Reports;

/// <summary>A report as one HTML page that needs nothing else: no network, no script.</summary>
public sealed class HtmlReport
{
    private const int NamedNodes = 20;

    private readonly StringBuilder _html = new();

    private HtmlReport()
    {
    }

    /// <summary>The page.</summary>
    /// <param name="report">What was found.</param>
    public static string Write(VerificationReport report)
    {
        ArgumentNullException.ThrowIfNull(report);
        var page = new HtmlReport();
        page.Page(report);
        return page._html.ToString();
    }

    private void Page(VerificationReport report)
    {
        string model = report.Audits.Select(audit => audit.Subject.Model).Concat(report.Completions.Select(result => result.Subject.Model)).FirstOrDefault("");
        _html.Append("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        _html.Append($"<title>{Text(model)}: does the answer depend on the batch?</title>\n<style>\n{HtmlStyle.Sheet}</style>\n</head>\n<body>\n<main>\n");
        string verdict = !report.IsComplete ? "stopped" : report.IsInvariant ? "invariant" : "varies";
        _html.Append($"<header><h1>{Text(model)}</h1><p>Do its logits depend on the batch? <strong id=\"verdict\" class=\"{verdict}\">{verdict}</strong></p>");
        if (!report.IsComplete)
        {
            _html.Append("<p id=\"partial\" class=\"note\">The run was stopped. This is what there was.</p>");
        }

        foreach (AuditResult audit in report.Audits)
        {
            _html.Append($"<p><strong>{Text(audit.Subject.Provider)}</strong>: {Summary(audit)}</p>");
        }

        _html.Append("</header>\n");
        foreach (ServingResult result in report.Completions.Take(1))
        {
            CompletionsTable(report.Completions, result);
        }

        foreach (ServingResult result in report.Completions)
        {
            CompletionsChart(result);
        }

        foreach (AuditResult audit in report.Audits)
        {
            Audit(audit);
        }

        _html.Append($"<footer class=\"small\"><p>Written on {Text(report.Date)} by <code>{Text(report.Command)}</code></p></footer>\n");
        _html.Append("</main>\n</body>\n</html>\n");
    }

    private void CompletionsTable(IReadOnlyList<ServingResult> results, ServingResult first)
    {
        _html.Append($"<section><h2>One prompt, again and again</h2><p>{first.PromptTokens} tokens of prompt, {first.NewTokens} of completion, among random requests that join and leave the batch and are put back into the queue at times ({Text(first.Arrivals)} arrivals, up to {first.LargestBatch} together{(first.PadsToBuckets ? $", padded to {Number(first.Shapes)} shapes" : "")}). Anything but 1 is wrong.</p>");
        _html.Append("<div class=\"wide\"><table id=\"completions\" class=\"stack\"><thead><tr><th>kernels</th><th>completions</th><th>distinct logits</th><th>distinct texts</th><th>logits differ from</th><th>texts part at</th><th>tokens per second</th></tr></thead><tbody>");
        foreach (ServingResult result in results)
        {
            foreach (DecodingResult decoding in result.Decodings)
            {
                string key = $"{result.Kernels}|{(decoding == result.Decodings[0] ? "greedy" : "sampled")}";
                _html.Append($"<tr data-decoding=\"{Text(key)}\"><th>{Text(result.Kernels)}<br><span class=\"small\">tokens chosen by {Text(decoding.Decoding)}</span></th>");
                Cell("completions", "completions", Number(decoding.Completions));
                Cell("logits", "distinct logits", decoding.DistinctLogits is { } logits ? Number(logits) : "not seen", decoding.DistinctLogits is null ? null : decoding.DistinctLogits == 1 ? "one" : "many");
                Cell("texts", "distinct texts", Number(decoding.DistinctTexts), decoding.DistinctTexts == 1 ? "one" : "many");
                Cell("logits-from", "logits differ from", Token(decoding.FirstDifferentLogits));
                Cell("texts-from", "texts part at", Token(decoding.FirstDifferentToken));
                Cell("speed", "tokens per second", Number((long)result.TokensPerSecond));
                _html.Append("</tr>");
            }
        }

        _html.Append("</tbody></table></div></section>\n");
    }

    private void CompletionsChart(ServingResult result)
    {
        DecodingResult decoding = result.Decodings[0];
        _html.Append($"<figure><figcaption>{Text(result.Kernels)}: distinct completions by the number of requests that ran together, {Text(decoding.Decoding)}</figcaption>");
        _html.Append(BatchSizeChart($"sizes-{Id(result.Subject.Provider)}", decoding.BatchSizes));
        _html.Append("</figure>\n");
    }

    private void Audit(AuditResult audit)
    {
        string verdict = !audit.IsComplete ? "stopped" : audit.IsInvariant ? "invariant" : "varies";
        AuditSubject subject = audit.Subject;
        string library = subject.Library.Length > 0 ? $", library {subject.Library} ({subject.InstructionSet})" : "";
        _html.Append($"<section id=\"audit-{Id(subject.Provider)}\" data-provider=\"{Text(subject.Provider)}\"><h2>{Text(subject.Provider)} <span class=\"{verdict}\">{verdict}</span></h2>");
        _html.Append($"<p class=\"small\">{Text(subject.Device)}; ONNX Runtime {Text(subject.OnnxRuntime)}{Text(library)}; {audit.PromptTokens} tokens of prompt, {audit.NewTokens} of completion, seed {audit.Seed}; {audit.Seconds.ToString("0", CultureInfo.InvariantCulture)} s</p>");
        _html.Append("<div class=\"wide\"><table class=\"axes stack\"><thead><tr><th>the text alone, against</th><th>logits compared</th><th>different</th><th>by this alone</th><th>max ulp</th><th>max difference</th><th>argmax flips</th><th>text parts at</th></tr></thead><tbody>");
        foreach (AuditAxisResult axis in audit.Axes)
        {
            Axis(axis);
        }

        _html.Append($"</tbody></table></div><p class=\"small\">{AuditResult.ComparedWith}</p>");
        _html.Append("<p class=\"small\">Max ulp: the largest difference, counted in representable numbers between the two; around zero there are many. Max difference: of two logits. Argmax flips: positions where another token is the most likely one. Text parts at: the first token of the greedy completion that comes out differently.</p>");
        Charts(audit);
        if (audit.Blames.Count > 0)
        {
            _html.Append("<h3>Blame</h3><p class=\"small\">A node introduces a difference if it is given equal inputs and gives different outputs. Relative: root mean square of the difference over that of the output.</p>");
        }

        foreach (BlameResult blame in audit.Blames)
        {
            Blame(blame, isOpen: blame == audit.Blame);
        }

        _html.Append("</section>\n");
    }

    private void Axis(AuditAxisResult axis)
    {
        string name = $"<th>{Text(axis.Name)}<br><span class=\"small\">{Text(axis.Values)}</span></th>";
        if (axis.ElementsCompared == 0)
        {
            _html.Append($"<tr data-axis=\"{axis.Id}\" class=\"notrun\">{name}<td colspan=\"7\">not run: {Text(axis.NotRun ?? "")}</td></tr>");
            return;
        }

        string note = axis.NotRun is null ? "" : $"<br><span class=\"small\">{Text(axis.NotRun)}</span>";
        _html.Append($"<tr data-axis=\"{axis.Id}\" class=\"{(axis.Varies ? "bad" : "good")}\">{name.Replace("</th>", note + "</th>", StringComparison.Ordinal)}");
        Cell("compared", "logits compared", Number(axis.ElementsCompared));
        Cell("different", "different", Number(axis.ElementsDifferent));
        Cell("own", "by this alone", Number(axis.BaselineDifferent), title: $"against {axis.Baseline}");
        Cell("ulp", "max ulp", Number(axis.MaxUlp));
        Cell("difference", "max difference", axis.MaxLogitDifference.ToString("G3", CultureInfo.InvariantCulture));
        Cell("flips", "argmax flips", $"{Number(axis.ArgmaxFlips)} of {Number(axis.PositionsCompared)}");
        Cell("parting", "text parts at", Token(axis.FirstParting));
        _html.Append("</tr>");
    }

    // Where the screen is narrow, the label stands before the value.
    private void Cell(string what, string label, string value, string? style = null, string? title = null)
    {
        _html.Append($"<td data-is=\"{what}\" data-label=\"{label}\"");
        _html.Append(style is null ? "" : $" class=\"{style}\"").Append(title is null ? "" : $" title=\"{Text(title)}\"");
        _html.Append($">{value}</td>");
    }

    private void Charts(AuditResult audit)
    {
        string id = Id(audit.Subject.Provider);
        int length = audit.PromptTokens + audit.NewTokens;
        double[] flips = [.. Enumerable.Range(0, length).Select(position => audit.Axes.Sum(axis => position < axis.FlipsPerPosition.Count ? axis.FlipsPerPosition[position] : 0d))];
        if (flips.Sum() > 0)
        {
            _html.Append($"<figure><figcaption>Argmax flips per position, all axes: {Number((long)flips.Sum())} in all; the line is where the completion begins</figcaption>");
            _html.Append(SvgChart.Bars(
                $"flips-{id}", "Argmax flips per position", "position", Places(length), [new ChartSeries("flips", "texts", flips)], mark: audit.PromptTokens));
            _html.Append("</figure>");
        }
        else
        {
            _html.Append($"<p class=\"flips\">Argmax flips per position: none, in {Number(audit.Axes.Sum(axis => axis.PositionsCompared))} positions of all axes.</p>");
        }

        BatchSizeCount[] sizes =
        [
            .. audit.Axes.SelectMany(axis => axis.BatchSizes).GroupBy(size => size.Rows).OrderBy(group => group.Key)
                .Select(group => new BatchSizeCount(group.Key, group.Sum(size => size.Completions), group.Max(size => size.DistinctLogits), group.Max(size => size.DistinctTexts))),
        ];
        if (sizes.Length > 0)
        {
            _html.Append("<figure><figcaption>Distinct answers of one text per batch size, of the axis with the most</figcaption>");
            _html.Append(BatchSizeChart($"sizes-audit-{id}", sizes));
            _html.Append("</figure>");
        }
    }

    private void Blame(BlameResult blame, bool isOpen)
    {
        string found = blame.Introducing.Count > 0 ? AuditMessage.Ops(blame) : "no node";
        _html.Append($"<details data-blame=\"{blame.AxisId}\"{(isOpen ? " open" : "")}><summary><strong>{Text(blame.Axis)}</strong>: {Text(found)}</summary>");
        _html.Append($"<p>{Text(blame.Batch)}, against {Text(blame.Against)}{(blame.GraphOptimizations ? "" : "; graph optimisations off")}. {blame.NodesExamined} nodes were given equal inputs.</p>");
        if (blame.First is { } first)
        {
            string provider = first.Provider.Length > 0 ? $", {first.Provider}" : "";
            _html.Append($"<p class=\"first-node\">The first node that differs: <strong>{Text(first.Name)}</strong> ({Text(first.Op)}{Text(provider)}) <span class=\"small\">{Text(first.Shapes)}</span></p>");
        }

        if (blame.Note is not null)
        {
            _html.Append($"<p class=\"note\">{Text(blame.Note)}</p>");
        }

        (string Layer, double Difference)[] layers =
        [
            .. blame.Nodes.GroupBy(node => node.Layer).OrderBy(group => group.Min(node => node.Order))
                .Select(group => (group.Key?.ToString(CultureInfo.InvariantCulture) ?? "other", group.Max(node => node.RelativeDifference))),
        ];
        if (layers.Length > 0)
        {
            _html.Append("<figure><figcaption>Difference per layer: the largest of its nodes, relative to their outputs</figcaption>");
            _html.Append(SvgChart.Bars(
                $"layers-{blame.AxisId}", "Difference per layer", "layer", [.. layers.Select(layer => layer.Layer)],
                [new ChartSeries("relative difference", "logits", [.. layers.Select(layer => layer.Difference)])], isLogarithmic: true));
            _html.Append("</figure>");
        }

        if (blame.Introducing.Count > 0)
        {
            _html.Append($"<p>Given equal inputs, {blame.Introducing.Count} nodes give different outputs, most harmful first:</p><div class=\"wide\"><table class=\"introducing stack\"><thead><tr><th>node</th><th>different</th><th>max ulp</th><th>relative</th></tr></thead><tbody>");
            foreach (BlamedNode node in blame.Introducing.Take(NamedNodes))
            {
                _html.Append($"<tr><th>{Text(node.Name)}<br><span class=\"small\">{Text(node.Op)}, {Text(node.Provider)}; {Text(node.Shapes)}</span></th>");
                Cell("different", "different", $"{Number(node.ElementsDifferent)} of {Number(node.ElementsCompared)}");
                Cell("ulp", "max ulp", Number(node.MaxUlp));
                Cell("relative", "relative", node.RelativeDifference.ToString("0.0E+0", CultureInfo.InvariantCulture));
                _html.Append("</tr>");
            }

            _html.Append("</tbody></table></div>");
            if (blame.Introducing.Count > NamedNodes)
            {
                _html.Append($"<p class=\"small\">and {blame.Introducing.Count - NamedNodes} more.</p>");
            }
        }

        _html.Append("</details>\n");
    }

    private static string BatchSizeChart(string id, IReadOnlyList<BatchSizeCount> sizes) => SvgChart.Bars(
        id, "Distinct answers per batch size", "requests together", [.. sizes.Select(size => size.Rows.ToString(CultureInfo.InvariantCulture))],
        [
            new ChartSeries("distinct logits", "logits", [.. sizes.Select(size => (double)size.DistinctLogits)]),
            new ChartSeries("distinct texts", "texts", [.. sizes.Select(size => (double)size.DistinctTexts)]),
        ]);

    private static string[] Places(int count) => [.. Enumerable.Range(0, count).Select(place => place.ToString(CultureInfo.InvariantCulture))];

    private static string Summary(AuditResult audit)
    {
        int ran = audit.Axes.Count(axis => axis.ElementsCompared > 0);
        string first = audit.Blame?.First is { } node ? $"; the first node that differs is {Text(node.Name)} ({Text(node.Op)})" : "";
        string[] own = [.. audit.Axes.Where(axis => axis is { Varies: true, BaselineDifferent: > 0 }).Select(axis => axis.Name)];
        string byItself = own.Length > 0 ? $" What makes a difference by itself: {Text(string.Join(", ", own))}." : "";
        return $"{Number(audit.Axes.Sum(axis => axis.ElementsDifferent))} of {Number(audit.Axes.Sum(axis => axis.ElementsCompared))} logits differ, along {audit.Axes.Count(axis => axis.Varies)} of {ran} axes{first}.{byItself}";
    }

    private static string Token(int? index) => index is { } token ? $"token {Number(token + 1)}" : "";

    private static string Id(string provider) => WebUtility.UrlEncode(provider);

    private static string Text(string text) => WebUtility.HtmlEncode(text);

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
