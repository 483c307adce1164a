using System.CommandLine;
using OrtBatchInvariant.Gpu.Records;

namespace OrtBatchInvariant.Gpu.Commands;

/// <summary>`summary`: joins the results of all checks into one file and says whether anything failed.</summary>
internal static class SummaryCommand
{
    public static Command Create()
    {
        var results = new Argument<string>("RESULTS") { Description = "The folder with the results of the other commands and of GoogleTest." };
        var json = new Option<string>("--json") { Description = "The file to write.", Required = true, HelpName = "FILE" };
        var device = new Option<string>("--name") { Description = "What to call the device.", DefaultValueFactory = _ => "" };
        var commit = new Option<string>("--commit") { Description = "The commit that was built.", DefaultValueFactory = _ => "" };
        var command = new Command("summary", "Join the results of all checks.") { results, json, device, commit };
        command.SetAction(parsed => Summary.Write(
            parsed.GetRequiredValue(results), parsed.GetRequiredValue(json), parsed.GetRequiredValue(device), parsed.GetRequiredValue(commit)));
        return command;
    }
}
