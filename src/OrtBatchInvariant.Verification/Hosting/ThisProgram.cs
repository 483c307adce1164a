using System.Diagnostics;

namespace OrtBatchInvariant.Verification.Hosting;

/// <summary>The program that is running, started once more as a process of its own.</summary>
public static class ThisProgram
{
    /// <summary>Runs it with some arguments and waits for its end.</summary>
    /// <param name="arguments">Its arguments.</param>
    /// <returns>What it wrote to its standard output.</returns>
    /// <exception cref="VerificationException">It could not be started, or failed; the message holds what it said.</exception>
    public static string Run(IEnumerable<string> arguments)
    {
        string program = Environment.ProcessPath ?? throw new VerificationException("This system does not say which program is running, so no fresh process can be started.");
        bool isHost = Path.GetFileNameWithoutExtension(program) == "dotnet";
        IEnumerable<string> prefix = isHost ? [Path.Combine(AppContext.BaseDirectory, $"{AppDomain.CurrentDomain.FriendlyName}.dll")] : [];
        var start = new ProcessStartInfo(program, prefix.Concat(arguments)) { RedirectStandardError = true, RedirectStandardOutput = true };
        using Process process = Process.Start(start) ?? throw new VerificationException($"{program}: cannot be started as a fresh process.");
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0
            ? output.Result
            : throw new VerificationException($"The fresh process failed with exit code {process.ExitCode} ({error.ReplaceLineEndings(" ").Trim()}).");
    }
}
