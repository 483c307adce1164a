using System.CommandLine;
using System.CommandLine.Parsing;

namespace OrtBatchInvariant.Cli;

/// <summary>Arguments and options that several commands share.</summary>
internal static class Arguments
{
    public static Argument<string> Model() => new("MODEL") { Description = "A model folder in the layout of ONNX Runtime GenAI." };

    public static Option<int?> Threads() => new("--threads")
    {
        Description = "Threads that one operator may use. Any number gives the same bytes.",
        HelpName = "N",
        Validators = { result => AtLeast(result, 1) },
    };

    public static Option<bool> NoStrict() => new("--no-strict")
    {
        Description = "Take a model even if some of its nodes must be left to stock kernels that can vary.",
    };

    /// <summary>The device that a model is looked at for; no GPU is needed.</summary>
    public static Option<string> PlannedDevice()
    {
        var device = new Option<string>("--device")
        {
            Description = "What the model is to run on: cpu, or cuda, beside ONNX Runtime's CUDA provider; no GPU is needed here.",
            DefaultValueFactory = _ => "cpu",
            HelpName = "DEVICE",
        };
        device.AcceptOnlyFromAmong("cpu", "cuda");
        return device;
    }

    public static Option<string?> JsonFile() => new("--json") { Description = "Write the results to FILE as well.", HelpName = "FILE" };

    /// <summary>Looks at options together while the command line is parsed.</summary>
    public static void Check(this Command command, Action<CommandResult> check) => command.Validators.Add(result =>
    {
        try
        {
            check(result);
        }
        catch (InvalidOperationException)
        {
            // A value that is none. Its own option says so, after this.
        }
    });

    /// <summary>Refuses numbers under a minimum while the command line is parsed.</summary>
    public static void AtLeast(OptionResult result, int minimum)
    {
        if (result.Tokens is [var token] && int.TryParse(token.Value, out int value) && value < minimum)
        {
            result.AddError($"{result.Option.Name} is {value}: use {minimum} or more.");
        }
    }
}
