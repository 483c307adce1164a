using System.CommandLine;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Models.Export;

namespace OrtBatchInvariant.Cli.Commands;

/// <summary>`ortbi export`: a Hugging Face checkpoint, or random weights, to a GenAI model folder.</summary>
internal static class ExportCommand
{
    public static Command Create()
    {
        var paths = new Argument<string[]>("IN OUT")
        {
            Description = "A Hugging Face folder (config.json and safetensors) and the folder to make. With --random: the folder to make alone.",
            Arity = new ArgumentArity(1, 2),
        };
        var precision = new Option<string>("--precision")
        {
            Description = "Type of the weights.",
            DefaultValueFactory = _ => "fp32",
        }.AcceptOnlyFromAmong("fp32", "fp16", "bf16", "int4", "int8");
        var device = new Option<string?>("--device")
        {
            Description = "What the graph is for: cpu computes in fp32, cuda in fp16 or bf16 (default: cuda for fp16 and bf16, otherwise cpu).",
        }.AcceptOnlyFromAmong("cpu", "cuda");
        var bf16Activations = new Option<bool>("--bf16-activations") { Description = "int4, int8 on cuda: compute in bf16 instead of fp16." };
        var accuracyLevel = new Option<int?>("--accuracy-level")
        {
            Description = "How int4 and int8 weights are multiplied: 0 with activations as they are, 4 with activations rounded to int8 (default, as GenAI's builder: 4 on cpu, 0 on cuda).",
            HelpName = "0|4",
        };
        var blockSize = new Option<int>("--block-size")
        {
            Description = "int4, int8: weights that share a scale.",
            HelpName = "N",
            DefaultValueFactory = _ => 32,
        };
        var asymmetric = new Option<bool>("--asymmetric") { Description = "int4, int8: give each block a zero point of its own." };
        var contextLength = new Option<int?>("--context-length")
        {
            Description = "Longest sequence in tokens (default: the model's own). Phi-3's long-context models use their short rope factors "
                + "up to the original context length, their long ones beyond, whatever the length of a sequence.",
            HelpName = "N",
        };
        var random = new Option<bool>("--random") { Description = "Make a model of a known shape with random weights; it has no tokenizer." };
        var like = new Option<string?>("--like")
        {
            Description = $"The shape for --random: {string.Join(", ", KnownShapes.Names)}.",
            HelpName = "NAME",
        };
        var force = new Option<bool>("--force") { Description = "Replace the output folder if it exists." };
        var command = new Command(
            "export",
            "Export a Llama, Mistral, Qwen2, Qwen2.5, Qwen3, Phi-3, Gemma 2, Gemma 3, SmolLM3 or OLMo 2 checkpoint to the folder layout of ONNX Runtime GenAI.")
        {
            paths, precision, device, bf16Activations, accuracyLevel, blockSize, asymmetric, contextLength, random, like, force,
        };
        command.Check(result =>
        {
            bool isRandom = result.GetValue(random);
            if (result.GetResult(paths)?.Tokens.Count is { } count && count != (isRandom ? 1 : 2))
            {
                result.AddError(isRandom ? "--random takes one folder, the one to make" : "export takes two folders, IN and OUT");
            }

            if (isRandom != result.GetValue(like) is not null)
            {
                result.AddError("--random and --like NAME go together");
            }

            bool isQuantised = result.GetResult(precision)?.Tokens is [{ Value: "int4" or "int8" }];
            if (!isQuantised && new Option[] { accuracyLevel, blockSize, asymmetric }.Any(option => result.GetResult(option) is { Implicit: false }))
            {
                result.AddError("--accuracy-level, --block-size and --asymmetric go with --precision int4 or int8");
            }

            if (result.GetValue(bf16Activations) && (!isQuantised || result.GetResult(device)?.Tokens is not [{ Value: "cuda" }]))
            {
                result.AddError("--bf16-activations goes with --precision int4 or int8 and --device cuda");
            }
        });
        command.SetStoppableAction((parsed, cancellation) => Run(
            parsed.GetRequiredValue(paths),
            parsed.GetValue(like),
            new ExportOptions
            {
                Precision = Enum.Parse<ExportPrecision>(parsed.GetRequiredValue(precision), ignoreCase: true),
                Target = TargetOf(parsed.GetValue(device), parsed.GetRequiredValue(precision)),
                UseBf16Activations = parsed.GetValue(bf16Activations),
                AccuracyLevel = parsed.GetValue(accuracyLevel),
                BlockSize = parsed.GetValue(blockSize),
                IsSymmetric = !parsed.GetValue(asymmetric),
                ContextLength = parsed.GetValue(contextLength),
                Overwrite = parsed.GetValue(force),
            },
            cancellation));
        return command;
    }

    private static ExportTarget TargetOf(string? device, string precision) =>
        (device ?? (precision is "fp16" or "bf16" ? "cuda" : "cpu")) == "cuda" ? ExportTarget.Cuda : ExportTarget.Cpu;

    private static int Run(string[] paths, string? like, ExportOptions options, CancellationToken cancellation)
    {
        string output = paths[^1];
        if (!options.Overwrite && Directory.Exists(output) && Directory.EnumerateFileSystemEntries(output).Any())
        {
            throw new ModelException($"{output}: exists and is not empty; choose another folder or add --force to replace it.");
        }

        ExportResult result = Terminal.WithProgress(addBar =>
        {
            IProgressBar bar = addBar("Exporting");
            var progress = new DirectProgress<ExportProgress>(step => bar.Set(step.BytesWritten, step.TotalBytes, step.Tensor));
            return like is null
                ? ModelExporter.Export(paths[0], output, options, progress, cancellation)
                : ModelExporter.ExportRandom(like, output, options, progress: progress, cancellation: cancellation);
        });
        Console.WriteLine(FormattableString.Invariant(
            $"{result.Folder}: {result.NodeCount} nodes, {result.WeightBytes / 1e6:F1} MB of weights, {(result.CopiedFiles.Count > 0 ? "with" : "without")} tokenizer"));
        return ExitCode.Success;
    }
}
