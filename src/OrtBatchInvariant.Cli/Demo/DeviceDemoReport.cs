using System.Globalization;
using System.Text.Json;
using OrtBatchInvariant.Cli.Verify;
using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Device;
using Spectre.Console;

namespace OrtBatchInvariant.Cli.Demo;

/// <summary>What `ortbi demo --device cuda` prints, and the form that `--json` writes.</summary>
internal static class DeviceDemoReport
{
    public static void Print(DeviceDemoResult result, IAnsiConsole console)
    {
        console.MarkupLineInterpolated($"[bold]How many different answers did one and the same prompt get on {result.Device}?[/] Anything but 1 is wrong.");
        foreach (DeviceDemoModelResult model in result.Models)
        {
            console.MarkupLineInterpolated($"[bold]{model.Model.Title}[/]");
            CompletionsReport.Print([.. Results(model)], console);
        }

        if (result.Models.Any(model => model.Stock is null))
        {
            console.MarkupLineInterpolated(
                $"[yellow]Stock kernels were not run:[/] put ONNX Runtime's CUDA provider beside ONNX Runtime, or name its library in {StockCuda.LibraryVariable}.");
        }

        DecodingResult[] ours = [.. result.Models.SelectMany(model => model.BatchInvariant.Decodings)];
        string found = result.Passed
            ? $"PASSED[/] Batch-invariant kernels gave the prompt exactly one answer, to the byte, in {Number(ours.Sum(decoding => decoding.Completions))} completions."
            : $"FAILED[/] Batch-invariant kernels gave the prompt up to {ours.Max(decoding => decoding.DistinctLogits)} different logits.";
        console.MarkupLine($"{(result.Passed ? "[green bold]" : "[red bold]")}{found}");
        string selfTest = result.SelfTest.Length > 0 ? $"start-up self-test: {result.SelfTest}; " : "";
        console.MarkupLineInterpolated(
            $"[grey]{Number(result.Models.Sum(model => model.BatchInvariant.LogitsCompared))} logits compared; {selfTest}seed {result.Seed}; {result.Elapsed.TotalSeconds:F0} s.[/]");
    }

    public static string ToJson(DeviceDemoResult result) => JsonSerializer.Serialize(
        new
        {
            result.Passed,
            Date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
            result.Device,
            result.SelfTest,
            result.Seed,
            Seconds = Math.Round(result.Elapsed.TotalSeconds, 1),
            Models = result.Models.Select(model => new
            {
                Name = model.Model.Title,
                Folder = model.Model.Folder.Path,
                model.Stock,
                model.BatchInvariant,
            }),
        },
        JsonFormat.Options);

    private static IEnumerable<ServingResult> Results(DeviceDemoModelResult model) => model.Stock is { } stock ? [stock, model.BatchInvariant] : [model.BatchInvariant];

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
