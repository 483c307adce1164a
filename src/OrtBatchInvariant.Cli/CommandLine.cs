using System.CommandLine;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Cli.Commands;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Verification;

namespace OrtBatchInvariant.Cli;

/// <summary>The commands, and how their failures reach the user: one sentence on stderr and an exit code.</summary>
internal static class CommandLine
{
    // After Ctrl-C: a batch that is under way is finished first.
    private static readonly TimeSpan s_timeToStop = TimeSpan.FromSeconds(60);

    public static async Task<int> RunAsync(string[] args)
    {
        var root = new RootCommand("Batch-invariant ONNX Runtime: the bytes of an answer no longer depend on its batch. Start with `ortbi demo --quick`.")
        {
            DemoCommand.Create(), GenerateCommand.Create(), InspectCommand.Create(), ConvertCommand.Create(), ExportCommand.Create(), BenchCommand.Create(),
            VerifyCommand.Create(),
        };
        ParseResult parsed = root.Parse(args is [] ? ["--help"] : args);
        if (UsageErrors.Find(parsed) is { } error)
        {
            return Fail($"{error}; see `ortbi {Name(parsed)}--help`.", ExitCode.Usage);
        }

        try
        {
            return await parsed.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = s_timeToStop });
        }
        catch (OperationCanceledException) when (OutputPipe.Closed.IsCancellationRequested)
        {
            return ExitCode.OutputClosed;
        }
        catch (OperationCanceledException)
        {
            return Fail("Stopped.", ExitCode.Cancelled);
        }
        catch (Exception exception) when (IsForTheUser(exception))
        {
            return Fail(exception.Message, ExitCode.Failure);
        }
    }

    private static string Name(ParseResult parsed) =>
        parsed.CommandResult.Command is RootCommand ? "" : $"{parsed.CommandResult.Command.Name} ";

    private static bool IsForTheUser(Exception exception) => exception is VerificationException or BatchInvariantException or ModelException
        or OnnxRuntimeException or OnnxRuntimeGenAIException or IOException or UnauthorizedAccessException;

    private static int Fail(string message, int exitCode)
    {
        Console.Error.WriteLine($"ortbi: {message.ReplaceLineEndings(" ").Trim()}");
        return exitCode;
    }
}
