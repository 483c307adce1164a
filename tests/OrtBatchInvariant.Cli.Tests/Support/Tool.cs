using System.Diagnostics;
using System.Text.RegularExpressions;

namespace OrtBatchInvariant.Cli.Tests.Support;

/// <summary>Runs ortbi as a process of its own.</summary>
internal static partial class Tool
{
    private static readonly string s_program = Path.Combine(AppContext.BaseDirectory, "ortbi.dll");

    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(2);

    public static Process Start(params string[] arguments) => Start("dotnet", [s_program, .. arguments], []);

    public static Task<ToolResult> Run(params string[] arguments) => Run([], arguments);

    public static async Task<ToolResult> Run(Dictionary<string, string> environment, params string[] arguments)
    {
        using Process process = Start("dotnet", [s_program, .. arguments], environment);
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return new ToolResult(process.ExitCode, output, WithoutProgress(await error));
    }

    /// <summary>Runs ortbi and presses Ctrl-C a second after it has got under way, however busy the machine is. Linux only.</summary>
    public static async Task<ToolResult> RunInterrupted(Func<Process, bool> isUnderWay, params string[] arguments)
    {
        // A shell that runs the tests in the background has them and all their children ignore Ctrl-C.
        using Process process = Start("env", ["--default-signal=INT", "dotnet", s_program, .. arguments], []);
        Task<string> error = process.StandardError.ReadToEndAsync();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        var patience = Stopwatch.StartNew();
        while (!process.HasExited && !isUnderWay(process) && patience.Elapsed < s_patience)
        {
            await Task.Delay(50);
        }

        await Task.Delay(TimeSpan.FromSeconds(1));
        if (process.HasExited)
        {
            Assert.Fail($"it ended before it could be stopped: {await output}{await error}");
        }

        using (Process kill = Process.Start("kill", ["-INT", $"{process.Id}"]))
        {
            await kill.WaitForExitAsync();
        }

        await process.WaitForExitAsync();
        return new ToolResult(process.ExitCode, await output, WithoutProgress(await error));
    }

    /// <summary>What was said on stderr but how far the work is, which takes longer than a few seconds on a busy machine.</summary>
    private static string WithoutProgress(string error) => ProgressLine().Replace(error, "");

    [GeneratedRegex(@"^.*: \d+ %\r?\n", RegexOptions.Multiline)]
    private static partial Regex ProgressLine();

    private static Process Start(string program, string[] arguments, Dictionary<string, string> environment)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Path.GetTempPath(),
        };
        foreach ((string key, string value) in environment)
        {
            start.Environment[key] = value;
        }

        return Process.Start(start)!;
    }
}

/// <summary>What a run of ortbi came to.</summary>
internal sealed record ToolResult(int ExitCode, string Output, string Error)
{
    /// <summary>Asserts that the tool failed with one sentence on stderr and nothing on stdout.</summary>
    public void AssertFailedWith(int exitCode, params string[] parts)
    {
        Assert.Equal(exitCode, ExitCode);
        string line = Assert.Single(Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.StartsWith("ortbi: ", line, StringComparison.Ordinal);
        Assert.All(parts, part => Assert.Contains(part, line, StringComparison.Ordinal));
        Assert.Empty(Output);
    }
}
