using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Files;

namespace OrtBatchInvariant.Gpu.Records;

/// <summary>Joins what the commands (<c>*.json</c>) and the GoogleTest programs (<c>*.log</c>) left in a folder.</summary>
internal static partial class Summary
{
    public static int Write(string folder, string jsonFile, string device, string commit)
    {
        if (!Directory.Exists(folder))
        {
            throw new VerificationException($"{folder}: no such folder of results.");
        }

        List<CheckRecord> records =
        [
            .. Directory.EnumerateFiles(folder, "*.json").Order(StringComparer.Ordinal).Where(file => Path.GetFullPath(file) != Path.GetFullPath(jsonFile))
                .Select(Read).OfType<CheckRecord>(),
            .. Directory.EnumerateFiles(folder, "*.log").Order(StringComparer.Ordinal).Select(ReadGoogleTest).OfType<CheckRecord>(),
        ];
        List<Check> checks = [.. records.SelectMany(record => record.Checks)];
        int failed = checks.Count(check => !check.Passed);
        var summary = new SummaryRecord(
            device, DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture), commit, checks.Count - failed, failed,
            checks.Where(check => check.Kernels != "stock").Sum(check => check.ElementsCompared ?? 0),
            [
                // Completions count answers and not elements.
                .. checks.Where(check => check.Axis is not null && check.ElementsDifferent is not null)
                    .GroupBy(check => (check.Kernels, check.Axis))
                    .Select(group => new AxisTotal(
                        group.Key.Kernels!, group.Key.Axis!, group.Sum(check => check.ElementsCompared ?? 0), group.Sum(check => check.ElementsDifferent ?? 0))),
            ],
            records);
        AtomicText.Write(jsonFile, JsonSerializer.Serialize(summary, RecordContext.Default.SummaryRecord) + "\n");
        foreach (CheckRecord record in records)
        {
            Console.WriteLine(
                $"{record.Subject}: {record.Checks.Count(check => check.Passed)} passed, {record.Checks.Count(check => !check.Passed)} failed, {record.Seconds:F1} s");
        }

        foreach (AxisTotal axis in summary.Axes)
        {
            Console.WriteLine(FormattableString.Invariant($"  {axis.Kernels}: {axis.Axis}: {axis.ElementsDifferent:N0} of {axis.ElementsCompared:N0} differ"));
        }

        Console.WriteLine(FormattableString.Invariant($"{summary.Passed} passed, {failed} failed; {summary.ElementsCompared:N0} elements compared"));
        return failed == 0 && checks.Count > 0 ? 0 : 1;
    }

    // Benchmarks lie in the same folder and have no checks.
    private static CheckRecord? Read(string file)
    {
        try
        {
            string text = File.ReadAllText(file);
            CheckRecord? record = JsonSerializer.Deserialize(text, RecordContext.Default.CheckRecord);
            return record?.Checks is null ? ReadDemo(file, text)
                : record.IsComplete ? record
                : record with { Checks = [.. record.Checks, new Check("complete", false, "the program did not finish")] };
        }
        catch (JsonException exception)
        {
            throw new VerificationException($"{file}: not the result of a check.", exception);
        }
    }

    private static CheckRecord? ReadDemo(string file, string text) =>
        JsonSerializer.Deserialize(text, RecordContext.Default.DemoRecord) is { Passed: { } passed, Seconds: var seconds }
            ? new CheckRecord(Path.GetFileNameWithoutExtension(file), true, "", "", seconds, [new Check("ortbi demo: one answer to one prompt", passed, "")])
            : null;

    // A program that crashed leaves a test that began and did not end.
    private static CheckRecord? ReadGoogleTest(string file)
    {
        string text = File.ReadAllText(file);
        string[] begun = [.. Begun().Matches(text).Select(match => match.Groups[1].Value)];
        if (begun.Length == 0)
        {
            return null;
        }

        HashSet<string> ended = [.. Passed().Matches(text).Select(match => match.Groups[1].Value)];
        long compared = Compared().Matches(text).Sum(match => long.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture));
        double seconds = Milliseconds().Match(text) is { Success: true } total ? double.Parse(total.Groups[1].Value, CultureInfo.InvariantCulture) / 1000 : 0;
        List<Check> checks = [.. begun.Distinct().Select(name => new Check(name, ended.Contains(name), ""))];
        checks.Add(new Check("elements compared", compared > 0, $"{compared}") { ElementsCompared = compared });
        if (text.Contains("COMPUTE-SANITIZER", StringComparison.Ordinal))
        {
            Match found = Sanitized().Match(text);
            checks.Add(new Check("compute-sanitizer", found.Success && found.Groups[1].Value == "0", found.Success ? found.Value : "it gave no summary"));
        }

        return new CheckRecord(Path.GetFileNameWithoutExtension(file), true, "", "", seconds, checks);
    }

    [GeneratedRegex(@"^\[ RUN      \] (\S+)", RegexOptions.Multiline)]
    private static partial Regex Begun();

    [GeneratedRegex(@"^\[(?:       OK|  SKIPPED) \] (\S+?)(?: \(\d+ ms\))?\s*$", RegexOptions.Multiline)]
    private static partial Regex Passed();

    [GeneratedRegex(@"(\d+) elements compared", RegexOptions.Multiline)]
    private static partial Regex Compared();

    [GeneratedRegex(@"SUMMARY: (\d+) (?:errors?|hazards?)")]
    private static partial Regex Sanitized();

    [GeneratedRegex(@"ran\. \((\d+) ms total\)")]
    private static partial Regex Milliseconds();
}
