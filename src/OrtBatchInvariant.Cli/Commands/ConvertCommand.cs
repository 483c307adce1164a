using System.CommandLine;
using OrtBatchInvariant.Conversion;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Cli.Commands;

/// <summary>`ortbi convert`: a model whose nodes are custom ops, for hosts without the provider; and back.</summary>
internal static class ConvertCommand
{
    public static Command Create()
    {
        var input = new Argument<string>("IN") { Description = "A GenAI model folder, or an .onnx file." };
        var output = new Argument<string>("OUT") { Description = "The folder to make: the model, its data, and the library with the custom ops." };
        var revert = new Option<bool>("--revert") { Description = "Turn a converted model back into what it was." };
        var link = new Option<bool>("--link") { Description = "Link to external data (hard links) instead of copying it." };
        Option<string> device = Arguments.PlannedDevice();
        Option<bool> noStrict = Arguments.NoStrict();
        var force = new Option<bool>("--force") { Description = "Replace the output folder if it exists." };
        var command = new Command(
            "convert", "Rewrite a model to batch-invariant custom ops, for any ONNX Runtime host. Exit code 3 if any node can still vary (with --no-strict).")
        {
            input, output, revert, link, device, noStrict, force,
        };
        command.SetStoppableAction((parsed, cancellation) => Run(
            parsed.GetRequiredValue(input),
            parsed.GetRequiredValue(output),
            new ConvertOptions
            {
                Revert = parsed.GetValue(revert),
                Link = parsed.GetValue(link),
                ForCuda = parsed.GetValue(device) == "cuda",
                Strict = !parsed.GetValue(noStrict),
                Overwrite = parsed.GetValue(force),
            },
            cancellation));
        return command;
    }

    private static int Run(string input, string output, ConvertOptions options, CancellationToken cancellation)
    {
        OnnxRuntimeLibrary.LoadFirst();
        ConvertResult result = Terminal.WithProgress(addBar =>
        {
            IProgressBar bar = addBar("Converting");
            var progress = new DirectProgress<ConvertProgress>(step => bar.Set(step.BytesWritten, step.TotalBytes, step.File));
            return ModelConverter.Convert(input, output, options, progress, cancellation);
        });
        foreach (ConvertedModel model in result.Models)
        {
            string what = options.Revert ? $"{model.ChangedNodes} nodes turned back"
                : model.ChangedNodes > 0 ? $"{model.ChangedNodes} nodes converted"
                : model.CustomNodes > 0 ? $"converted already ({model.CustomNodes} custom ops), copied as it is"
                : "nothing to convert, copied as it is";
            Console.WriteLine($"{model.File}: {what}");
            foreach (CoverageNode node in model.VaryingNodes)
            {
                Console.WriteLine($"  varies: {node.Name} ({node.Op}): {node.Reason}");
            }
        }

        return result.Models.All(model => model.VaryingNodes.Count == 0) ? ExitCode.Success : ExitCode.Varies;
    }
}
