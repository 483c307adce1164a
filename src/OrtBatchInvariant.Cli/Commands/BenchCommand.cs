using System.CommandLine;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Cli.Bench;
using OrtBatchInvariant.Cli.Demo;
using OrtBatchInvariant.Verification.Benchmarks;
using OrtBatchInvariant.Verification.Files;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Cli.Commands;

/// <summary>`ortbi bench`: what batch invariance costs, per operator and end to end.</summary>
internal static class BenchCommand
{
    private sealed record Request(
        IReadOnlyList<string> Models, IReadOnlyList<int> Batches, IReadOnlyList<int> Prompts, bool IsOpsOnly, bool IsModelsOnly, IReadOnlyList<string> Ops,
        TimeSpan CellTime, bool IsLarge, string? JsonFile, int Threads);

    public static Command Create()
    {
        var models = new Argument<string[]>("MODEL")
        {
            Description = "GenAI model folders; without any, the demo model in each precision.",
            Arity = ArgumentArity.ZeroOrMore,
        };
        var ops = new Option<bool>("--ops") { Description = "Operators only, no models." };
        var noOps = new Option<bool>("--no-ops") { Description = "Models only, no operators." };
        var op = new Option<string[]>("--op")
        {
            Description = "Only operators of this name, as MatMul; may be given several times.",
            HelpName = "NAME",
        };
        var cellTime = new Option<int>("--milliseconds")
        {
            Description = "About how long to measure one operator with one number of rows, stock and batch-invariant together.",
            HelpName = "N",
            DefaultValueFactory = _ => 300,
        };
        var large = new Option<bool>("--large") { Description = "Operators with weights of 4096 x 14336, 1,024 rows and contexts of 8,192 tokens as well." };
        var batch = new Option<string>("--batch") { Description = "Batch sizes for models.", HelpName = "N,N,...", DefaultValueFactory = _ => "1,4,16" };
        var prompt = new Option<string>("--prompt")
        {
            Description = "Lengths of prompts for models, in tokens; one that exceeds a model's context is left out.",
            HelpName = "N,N,...",
            DefaultValueFactory = _ => "512,2048",
        };
        var memoryOf = new Option<KernelSet?>("--memory-of") { Description = "Measure the memory of this process, as another one asks.", Hidden = true };
        Option<string?> json = Arguments.JsonFile();
        Option<int?> threads = Arguments.Threads();
        var command = new Command("bench", "Time stock and batch-invariant kernels by turns, per operator and end to end.")
        {
            models, ops, noOps, op, cellTime, large, batch, prompt, memoryOf, json, threads,
        };
        foreach ((Option<string> option, string example) in new[] { (batch, "1,4,16"), (prompt, "512,2048") })
        {
            option.Validators.Add(result =>
            {
                if (Numbers(result.GetValueOrDefault<string>()) is null)
                {
                    result.AddError($"{option.Name} takes numbers of 1 or more with commas between them, for example {example}");
                }
            });
        }

        command.Check(result =>
        {
            if (result.GetValue(ops) && (result.GetValue(noOps) || result.GetValue(models) is { Length: > 0 }))
            {
                result.AddError("--ops excludes --no-ops and models");
            }
        });
        command.Check(result =>
        {
            foreach (string name in result.GetValue(op) ?? [])
            {
                if (!OpBenchmark.Operators.Contains(name))
                {
                    result.AddError($"--op takes one of {string.Join(", ", OpBenchmark.Operators)}, not '{name}'");
                }
            }
        });
        command.SetStoppableAction((parsed, cancellation) =>
        {
            int threadCount = parsed.GetValue(threads) ?? Environment.ProcessorCount;
            string[] named = parsed.GetValue(models) ?? [];
            return parsed.GetValue(memoryOf) is { } kernels
                ? MeasureMemory(named.Single(), kernels, threadCount)
                : Run(
                    new Request(
                        named,
                        Numbers(parsed.GetRequiredValue(batch))!,
                        Numbers(parsed.GetRequiredValue(prompt))!,
                        parsed.GetValue(ops),
                        parsed.GetValue(noOps),
                        parsed.GetValue(op) ?? [],
                        TimeSpan.FromMilliseconds(parsed.GetValue(cellTime)),
                        parsed.GetValue(large),
                        parsed.GetValue(json),
                        threadCount),
                    cancellation);
        });
        return command;
    }

    private static int[]? Numbers(string? text)
    {
        int[] numbers = [.. (text ?? "").Split(',').Select(number => int.TryParse(number, out int value) ? value : 0)];
        return numbers.All(number => number > 0) ? numbers : null;
    }

    private static int MeasureMemory(string model, KernelSet kernels, int threads)
    {
        ModelFolder folder = ModelFolder.Open(model);
        OnnxRuntimeLibrary.LoadFirst();
        if (kernels == KernelSet.BatchInvariant)
        {
            BatchInvariantProvider.Register();
        }

        using var genAI = new OgaHandle();
        Console.WriteLine(JsonSerializer.Serialize(MemoryBenchmark.Measure(folder, kernels, threads)));
        return ExitCode.Success;
    }

    private static MemoryUse InFreshProcess(ModelFolder model, KernelSet kernels, int threads) => JsonSerializer.Deserialize<MemoryUse>(
        ThisProgram.Run(["bench", model.Path, "--memory-of", $"{kernels}", "--threads", $"{threads}"]))!;

    private static int Run(Request request, CancellationToken cancellation)
    {
        if (request.JsonFile is { } file)
        {
            AtomicText.CheckTarget(file);
        }

        IReadOnlyList<ModelFolder> models = request.IsOpsOnly ? []
            : request.Models.Count > 0 ? [.. request.Models.Select(ModelFolder.Open)]
            : [.. DemoCheckpoint.Export(cancellation).Select(model => model.Folder)];
        OnnxRuntimeLibrary.LoadFirst();
        BatchInvariantProvider.Register();
        using OgaHandle? genAI = models.Count > 0 ? new() : null;
        MachinePeaks peaks = MachinePeaks.Measure(request.Threads);
        var rows = new List<BenchmarkRow>();
        Terminal.WithProgress(addBar =>
        {
            if (!request.IsModelsOnly)
            {
                IProgressBar bar = addBar("Operators");
                rows.AddRange(OpBenchmark.Run(
                    peaks,
                    request.Threads,
                    request.Ops,
                    request.CellTime,
                    request.IsLarge,
                    new DirectProgress<(int Done, int Total, string Name)>(step => bar.Set(step.Done, step.Total, step.Name)),
                    cancellation));
            }

            foreach (ModelFolder model in models)
            {
                rows.AddRange(LoadBenchmark.Run(model, request.Threads, cancellation));
                IProgressBar bar = addBar(model.Name);
                rows.AddRange(GenerationBenchmark.Run(
                    model,
                    request.Threads,
                    request.Batches,
                    new DirectProgress<(int Done, int Total)>(step => bar.Set(step.Done, step.Total)),
                    cancellation));
                bar = addBar($"{model.Name}, prompts");
                rows.AddRange(PromptBenchmark.Run(
                    model,
                    request.Threads,
                    request.Prompts,
                    new DirectProgress<(int Done, int Total)>(step => bar.Set(step.Done, step.Total)),
                    cancellation));
                rows.AddRange(MemoryBenchmark.Run(model, kernels => InFreshProcess(model, kernels, request.Threads)));
            }

            return rows;
        });

        BenchReport.Print(rows, peaks, request.Threads, Terminal.Out);
        if (request.JsonFile is not null)
        {
            AtomicText.Write(request.JsonFile, BenchRecord.Write(rows, request.Threads, OrtEnv.Instance().GetVersionString()));
        }

        return ExitCode.Success;
    }
}
