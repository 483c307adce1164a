using System.Buffers.Binary;
using System.Text.Json;
using System.Xml.Linq;
using OrtBatchInvariant.Cli.Tests.Support;
using OrtBatchInvariant.Tests.Support;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Audit.Reports;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Cli.Tests;

/// <summary>
/// The reports of a stock and of a batch-invariant run, as they were looked at and approved: <c>approved/*.json</c> came from
/// `ortbi verify`, and what is made from it must stay what lies beside it.
/// </summary>
public sealed class VerifyReportTests(ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _temporary = new();

    [Theory]
    [InlineData("stock")]
    [InlineData("batch-invariant")]
    public void ReportsAreAsApproved(string name)
    {
        VerificationReport report = Read(name);
        Approved.AssertIs($"{name}.html", HtmlReport.Write(report));
        Approved.AssertIs($"{name}.xml", JUnitReport.Write(report));
        Approved.AssertIs($"{name}.json", report.ToJson());
    }

    [Fact]
    public void ApprovedRunsShowWhatTheyAreFor()
    {
        VerificationReport stock = Read("stock");
        Assert.False(stock.IsInvariant);
        BlamedNode[] blamed = [.. stock.Audits[0].Blames.SelectMany(blame => blame.Introducing)];
        Assert.Contains(blamed, node => node.Op == "GroupQueryAttention");
        Assert.Contains(blamed, node => node.Op == "MatMulNBits");
        Assert.True(stock.Audits[0].Blames.Count > 1 && stock.Audits[0].Axes.Any(axis => axis is { Varies: true, BaselineDifferent: 0 }));
        VerificationReport ours = Read("batch-invariant");
        Assert.True(ours.IsInvariant);
        Assert.Null(ours.Audits[0].Blame);
        Assert.Equal(stock.Audits[0].Axes.Select(axis => axis.Id), ours.Audits[0].Axes.Select(axis => axis.Id));
    }

    [Fact]
    public void JUnitCountsWhatFailed()
    {
        VerificationReport report = Read("stock");
        XElement suite = XDocument.Parse(JUnitReport.Write(report)).Root!.Elements("testsuite").First();
        AuditAxisResult[] axes = [.. report.Audits[0].Axes];
        Assert.Equal((axes.Length, axes.Count(axis => axis.Varies), axes.Count(axis => axis.ElementsCompared == 0)),
            ((int)suite.Attribute("tests")!, (int)suite.Attribute("failures")!, (int)suite.Attribute("skipped")!));
        Assert.Contains(suite.Descendants("failure"), failure => failure.Value.Contains("GroupQueryAttention", StringComparison.Ordinal));

        XDocument stopped = XDocument.Parse(JUnitReport.Write(report with { IsComplete = false }));
        Assert.Single(stopped.Descendants("error"));
    }

    [Fact]
    public void PageNeedsNothingElse()
    {
        string html = HtmlReport.Write(Read("stock"));
        Assert.All(["<script", "<link", "<img", "@import", "url(", "http:", "https:"], part => Assert.DoesNotContain(part, html, StringComparison.OrdinalIgnoreCase));
        Assert.Contains("id=\"partial\"", HtmlReport.Write(Read("stock") with { IsComplete = false }), StringComparison.Ordinal);
        Assert.DoesNotContain("id=\"partial\"", html, StringComparison.Ordinal);
    }

    /// <summary>What a browser makes of the page: the numbers are there, nothing sticks out of a phone's screen, and every chart has bars.</summary>
    [Theory]
    [InlineData("stock", 390)]
    [InlineData("stock", 1200)]
    [InlineData("batch-invariant", 390)]
    public async Task BrowserShowsIt(string name, int width)
    {
        if (!Browser.IsThere)
        {
            return;
        }

        VerificationReport report = Read(name);
        string html = HtmlReport.Write(report);
        JsonElement seen = await Browser.Evaluate(html, width, """
            ({
              width: page.documentElement.scrollWidth,
              verdict: page.getElementById('verdict').textContent,
              first: page.querySelector('details[open] .first-node')?.textContent ?? '',
              blamed: [...page.querySelectorAll('details[data-blame]')].map(details => details.dataset.blame),
              axes: [...page.querySelectorAll('table.axes tr[data-axis]')].map(row => ({
                axis: row.dataset.axis,
                different: row.querySelector('[data-is=different]')?.textContent ?? '',
                own: row.querySelector('[data-is=own]')?.textContent ?? '',
                compared: row.querySelector('[data-is=compared]')?.textContent ?? '',
              })),
              completions: [...page.querySelectorAll('#completions tr[data-decoding]')].map(row => row.querySelector('[data-is=logits]').textContent),
              charts: [...page.querySelectorAll('figure svg')].filter(svg => !svg.closest('details:not([open])')).map(svg => ({
                id: svg.id, width: svg.getBoundingClientRect().width, height: svg.getBoundingClientRect().height,
                bars: [...svg.querySelectorAll('rect:not(.key)')].filter(bar => bar.getBoundingClientRect().height > 0).length,
                text: Math.min(...[...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect().height)),
              })),
            })
            """);
        output.WriteLine(seen.ToString());

        Assert.Equal(width, seen.GetProperty("width").GetInt32());
        Assert.Equal(report.IsInvariant ? "invariant" : "varies", seen.GetProperty("verdict").GetString());
        JsonElement[] axes = [.. seen.GetProperty("axes").EnumerateArray()];
        Assert.Equal(report.Audits[0].Axes.Select(axis => axis.Id), axes.Select(axis => axis.GetProperty("axis").GetString()));
        Assert.All(report.Audits[0].Axes.Zip(axes).Where(pair => pair.First.ElementsCompared > 0), pair =>
        {
            Assert.Equal(pair.First.ElementsDifferent, Number(pair.Second.GetProperty("different")));
            Assert.Equal(pair.First.BaselineDifferent, Number(pair.Second.GetProperty("own")));
            Assert.Equal(pair.First.ElementsCompared, Number(pair.Second.GetProperty("compared")));
        });
        Assert.Equal(
            report.Completions.SelectMany(result => result.Decodings).Select(decoding => (long)decoding.DistinctLogits!.Value),
            seen.GetProperty("completions").EnumerateArray().Select(Number));
        Assert.Contains(report.Audits[0].Blame?.First?.Name ?? "", seen.GetProperty("first").GetString()!, StringComparison.Ordinal);
        Assert.Equal(report.Audits[0].Blames.Select(blame => blame.AxisId), seen.GetProperty("blamed").EnumerateArray().Select(id => id.GetString()));
        JsonElement[] charts = [.. seen.GetProperty("charts").EnumerateArray()];
        bool flips = report.Audits[0].Axes.Any(axis => axis.ArgmaxFlips > 0);
        Assert.Equal(flips, charts.Any(chart => chart.GetProperty("id").GetString()!.StartsWith("flips", StringComparison.Ordinal)));
        Assert.True(charts.Length >= (report.IsInvariant ? 2 : 3));
        Assert.All(charts, chart =>
        {
            Assert.InRange(chart.GetProperty("width").GetDouble(), 300, width);
            Assert.True(chart.GetProperty("height").GetDouble() > 150 && chart.GetProperty("text").GetDouble() >= 9, chart.ToString());
            Assert.True(chart.GetProperty("bars").GetInt32() > 0, chart.ToString());
        });

        string png = Path.Combine(_temporary.Path, "page.png");
        await Browser.Screenshot(html, width, 2000, png);
        byte[] bytes = await File.ReadAllBytesAsync(png);
        Assert.Equal(2000, BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(20)));
        Assert.True(bytes.Length > 40_000, $"a screenshot of {bytes.Length} bytes is nearly blank");
    }

    public void Dispose() => _temporary.Dispose();

    private static long Number(JsonElement text) => long.Parse(text.GetString()!.Replace(",", "", StringComparison.Ordinal), System.Globalization.CultureInfo.InvariantCulture);

    private static VerificationReport Read(string name) => VerificationReport.Parse(Approved.Read($"{name}.json"));
}
