using System.CommandLine;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant;
using OrtBatchInvariant.Gpu.Commands;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Verification;

var root = new RootCommand("Checks and measures batch-invariant decoding end to end, on a GPU or on the CPU.")
{
    AloneCommand.Create(), ConvertedCommand.Create(), OpsCommand.Create(), InvarianceCommand.Create(), VerifyCommand.Create(), VerifyCommand.CreateFresh(),
    CompletionsCommand.Create(), BadInputCommand.Create(), BenchCommand.Create(), KernelsCommand.Create(), SummaryCommand.Create(),
};
ParseResult parsed = root.Parse(args);
if (parsed.Errors is [var error, ..])
{
    return Fail(error.Message, 2);
}

try
{
    return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (Exception exception) when (exception is VerificationException or BatchInvariantException or ModelException or OnnxRuntimeException or IOException)
{
    return Fail(exception.Message, 1);
}

static int Fail(string message, int exitCode)
{
    Console.Error.WriteLine($"ortbi-gpu: {message.ReplaceLineEndings(" ").Trim()}");
    return exitCode;
}
