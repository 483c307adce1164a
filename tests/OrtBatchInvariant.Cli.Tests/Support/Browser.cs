using System.Diagnostics;
using System.Net;
using System.Text.Json;
using System.Text.RegularExpressions;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Cli.Tests.Support;

/// <summary>Headless Chromium (Debian: <c>scripts/install-debian.sh</c>).</summary>
internal static partial class Browser
{
    private static readonly string[] s_names = ["chromium", "chromium-browser", "google-chrome"];

    private static readonly string? s_program = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
        .SelectMany(folder => s_names.Select(name => Path.Combine(folder, name))).FirstOrDefault(File.Exists);

    /// <summary>Whether there is one. Continuous integration installs it, so there it must be.</summary>
    public static bool IsThere => s_program is not null || Environment.GetEnvironmentVariable("CI") == "true";

    /// <summary>Takes a screenshot of a page as a screen of some width shows it.</summary>
    public static async Task Screenshot(string html, int width, int height, string png)
    {
        using var folder = new TemporaryFolder();
        string page = Path.Combine(folder.Path, "page.html");
        await File.WriteAllTextAsync(page, html);
        await Run($"--window-size={width},{height}", $"--screenshot={png}", new Uri(page).AbsoluteUri);
    }

    /// <summary>Shows a page in a frame of some width and evaluates an expression there.</summary>
    /// <param name="html">The page.</param>
    /// <param name="width">The frame's width in CSS pixels.</param>
    /// <param name="expression">JavaScript in which <c>page</c> is the document.</param>
    public static async Task<JsonElement> Evaluate(string html, int width, string expression)
    {
        using var folder = new TemporaryFolder();
        string page = Path.Combine(folder.Path, "page.html");
        await File.WriteAllTextAsync(
            page,
            $$"""
            <!doctype html><meta charset="utf-8"><pre id="measured"></pre>
            <iframe id="frame" style="width:{{width}}px;height:800px;border:0" srcdoc="{{WebUtility.HtmlEncode(html)}}"></iframe>
            <script>
              document.getElementById('frame').addEventListener('load', event => {
                const page = event.target.contentDocument;
                document.getElementById('measured').textContent = JSON.stringify({{expression}});
              });
            </script>
            """);
        string dom = await Run("--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom", new Uri(page).AbsoluteUri);
        Match measured = Measured().Match(dom);
        Assert.True(measured.Success && measured.Groups[1].Length > 0, $"Chromium measured nothing: {dom[..Math.Min(dom.Length, 500)]}");
        return JsonDocument.Parse(WebUtility.HtmlDecode(measured.Groups[1].Value)).RootElement;
    }

    private static async Task<string> Run(params string[] arguments)
    {
        Assert.True(s_program is not null, "There is no Chromium here: scripts/install-debian.sh installs it.");
        using var profile = new TemporaryFolder();
        var start = new ProcessStartInfo(
            s_program,
            [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
                "--disable-sync", "--hide-scrollbars", $"--user-data-dir={profile.Path}", .. arguments,
            ])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, await error);
        return output;
    }

    [GeneratedRegex("""<pre id="measured">(.*?)</pre>""", RegexOptions.Singleline)]
    private static partial Regex Measured();
}
