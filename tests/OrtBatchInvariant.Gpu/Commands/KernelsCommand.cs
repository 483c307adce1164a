using System.CommandLine;
using System.Text.RegularExpressions;
using OrtBatchInvariant.Gpu.Records;
using OrtBatchInvariant.Verification;

namespace OrtBatchInvariant.Gpu.Commands;

/// <summary>`kernels`: whether every kernel of the library was launched under each tool, so that a new one cannot be left out unseen.</summary>
internal static partial class KernelsCommand
{
    public static Command Create()
    {
        var symbols = new Argument<string>("SYMBOLS") { Description = "What `cuobjdump -symbols` says of the library." };
        var launched = new Argument<string>("FOLDER") { Description = "Holds launched-TOOL-PROGRAM.txt, what the test programs wrote." };
        var elsewhere = new Option<string?>("--elsewhere") { Description = "Kernels, as a regular expression over mangled names, that other devices run.", HelpName = "REGEX" };
        var json = new Option<string?>("--json") { Description = "Write the results to FILE.", HelpName = "FILE" };
        var command = new Command("kernels", "Check that the kernels that test programs launched are all that the library has.") { symbols, launched, elsewhere, json };
        command.SetAction(parsed => Run(
            parsed.GetRequiredValue(symbols), parsed.GetRequiredValue(launched), parsed.GetValue(elsewhere), parsed.GetValue(json)));
        return command;
    }

    private static int Run(string symbolsFile, string folder, string? elsewhere, string? json)
    {
        HashSet<string> all = [.. Entry().Matches(File.ReadAllText(symbolsFile)).Select(match => match.Groups[1].Value)];
        if (all.Count == 0)
        {
            throw new VerificationException($"{symbolsFile}: names no kernel; it must be what `cuobjdump -symbols` says of a library with CUDA kernels.");
        }

        HashSet<string> here = elsewhere is null ? all : [.. all.Where(kernel => !Regex.IsMatch(kernel, elsewhere))];
        var report = new CheckReport("kernels", json);
        foreach (IGrouping<string, string> tool in Directory.EnumerateFiles(folder, "launched-*-*.txt").Order(StringComparer.Ordinal)
            .GroupBy(file => Path.GetFileName(file).Split('-')[1]))
        {
            HashSet<string> seen = [.. tool.SelectMany(File.ReadLines).Select(line => line.Split(' ')[^1])];
            string[] missing = [.. here.Where(kernel => !seen.Contains(kernel)).Order(StringComparer.Ordinal)];
            int names = here.Select(Name).Distinct().Count();
            string rest = all.Count > here.Count ? $"; {all.Count - here.Count} are for other devices" : "";
            string unseen = missing.Length == 0 ? "" : $"; not launched: {string.Join(", ", missing)}";
            report.Add(
                $"{tool.Key} saw every kernel", missing.Length == 0,
                $"{here.Count - missing.Length} of {here.Count} instances of {names} kernels{rest}{unseen}");
        }

        return report.Finish();
    }

    // The last name before the template arguments or parameters of `_ZN<length><name>...`.
    private static string Name(string mangled)
    {
        string name = mangled;
        for (int at = mangled.StartsWith("_ZN", StringComparison.Ordinal) ? 3 : 2; at < mangled.Length && char.IsAsciiDigit(mangled[at]);)
        {
            int digits = mangled[at..].TakeWhile(char.IsAsciiDigit).Count();
            int length = int.Parse(mangled.AsSpan(at, digits), System.Globalization.CultureInfo.InvariantCulture);
            name = mangled.Substring(at + digits, length);
            at += digits + length;
        }

        return name;
    }

    [GeneratedRegex(@"STO_ENTRY\s+(\S+)\s*$", RegexOptions.Multiline)]
    private static partial Regex Entry();
}
