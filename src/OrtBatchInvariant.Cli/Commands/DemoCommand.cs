using System.CommandLine;
using System.Diagnostics;
using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Cli.Demo;
using OrtBatchInvariant.Verification.Experiments;
using OrtBatchInvariant.Verification.Files;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Cli.Commands;

/// <summary>`ortbi demo`: the same prompts, stock and batch-invariant, with everything varied that must not matter.</summary>
internal static class DemoCommand
{
    private const int RequiredCompletions = 1000;
    private const int QuickRequiredCompletions = 100;
    private const int NewTokens = 24;
    private const int QuickNewTokens = 12;
    private const int DeviceRows = 64;

    // The last one is long enough that its completion crosses from one block of 128 keys to the next.
    private static readonly string[] s_prompts =
    [
        "We must not forget that peace among nations depends upon",
        "It was a dark night, the wind blew from the north, and all the ship's company",
        "The revenue from customs and internal taxes for the year",
        "Call me Ishmael. Some years ago - never mind how long precisely - having little or no money in my purse, and nothing "
            + "particular to interest me on shore, I thought I would sail about a little and see the watery part of the world. It is "
            + "a way I have of driving off the spleen, and regulating the circulation. Whenever I find myself growing grim about the "
            + "mouth; whenever it is a damp, drizzly November in my soul; whenever I find myself",
    ];

    private sealed record Request(string? Model, bool IsQuick, string? JsonFile, int Threads, int Seed)
    {
        public int RequiredCompletions => IsQuick ? QuickRequiredCompletions : DemoCommand.RequiredCompletions;
    }

    public static Command Create()
    {
        var model = new Option<string?>("--model") { Description = "A GenAI model folder to run instead of the demo model.", HelpName = "DIR" };
        var quick = new Option<bool>("--quick") { Description = "Try fewer values of everything: a first look, in seconds." };
        Option<string?> json = Arguments.JsonFile();
        Option<int?> threads = Arguments.Threads();
        var seed = new Option<int?>("--seed") { Description = "What the neighbours of a prompt are drawn from; random if not given.", HelpName = "S" };
        var device = new Option<string>("--device")
        {
            Description = "cpu: through GenAI's loop. cuda: one prompt a thousand times, in a loop whose KV buffers stay on the GPU.",
            HelpName = "cpu|cuda",
            DefaultValueFactory = _ => "cpu",
        };
        device.AcceptOnlyFromAmong("cpu", "cuda");
        var deviceId = new Option<int>("--device-id") { Description = "The GPU, counted from 0.", HelpName = "N", Validators = { result => Arguments.AtLeast(result, 0) } };
        var command = new Command("demo", "Complete the same prompts in many different batches, stock and batch-invariant, and count different answers.")
        {
            model, device, deviceId, quick, json, threads, seed,
        };
        command.SetStoppableAction((parsed, cancellation) =>
        {
            var request = new Request(
                parsed.GetValue(model),
                parsed.GetValue(quick),
                parsed.GetValue(json),
                parsed.GetValue(threads) ?? Environment.ProcessorCount,
                parsed.GetValue(seed) ?? Random.Shared.Next());
            return parsed.GetValue(device) == "cuda" ? RunOnGpu(request, parsed.GetValue(deviceId), cancellation) : Run(request, cancellation);
        });
        return command;
    }

    private static int RunOnGpu(Request request, int deviceId, CancellationToken cancellation)
    {
        if (request.JsonFile is { } file)
        {
            AtomicText.CheckTarget(file);
        }

        ModelFolder? given = request.Model is { } path ? ModelFolder.Open(path) : null;
        OnnxRuntimeLibrary.LoadFirst();
        BatchInvariantProvider.Register();
        DeviceDemo.CheckDevice(deviceId);
        IReadOnlyList<DemoModel> models = given is not null ? [Named(given)] : DemoCheckpoint.ExportForCuda(cancellation);
        var options = new DeviceDemoOptions(
            deviceId, given is null ? Tokens(s_prompts[^1], cancellation) : null, request.RequiredCompletions,
            request.IsQuick ? QuickNewTokens : NewTokens, DeviceRows, request.Seed);
        DeviceDemoResult result = Terminal.WithProgress(addBar => DeviceDemo.Run(models, options, addBar, cancellation));
        DeviceDemoReport.Print(result, Terminal.Out);
        if (request.JsonFile is not null)
        {
            AtomicText.Write(request.JsonFile, DeviceDemoReport.ToJson(result));
        }

        return result.Passed ? ExitCode.Success : ExitCode.Failure;
    }

    // GenAI makes a tokenizer of a model that it has loaded, so the demo model's form for CPUs lends its own.
    private static int[] Tokens(string prompt, CancellationToken cancellation)
    {
        using var genAI = new OgaHandle();
        using HostedModel model = HostedModel.Load(DemoCheckpoint.Export(cancellation)[^1].Folder, new HostOptions { Kernels = KernelSet.Stock });
        using Sequences sequences = model.Tokenizer.Encode(prompt);
        return sequences[0].ToArray();
    }

    private static int Run(Request request, CancellationToken cancellation)
    {
        if (request.JsonFile is { } file)
        {
            AtomicText.CheckTarget(file);
        }

        long start = Stopwatch.GetTimestamp();
        IReadOnlyList<DemoModel> models = request.Model is { } path
            ? [Named(ModelFolder.Open(path))]
            : DemoCheckpoint.Export(cancellation);
        OnnxRuntimeLibrary.LoadFirst();
        BatchInvariantProvider.Register();
        using var genAI = new OgaHandle();
        IReadOnlyList<DemoModelResult> results = Terminal.WithProgress(addBar => RunAll(models, request, addBar, cancellation));
        var result = new DemoResult(
            results, request.RequiredCompletions, request.Threads, request.Seed, Stopwatch.GetElapsedTime(start));

        DemoReport.Print(result, Terminal.Out);
        if (request.JsonFile is not null)
        {
            AtomicText.Write(request.JsonFile, DemoJson.Write(result));
        }

        return result.Passed ? ExitCode.Success : ExitCode.Failure;
    }

    private static DemoModel Named(ModelFolder folder) => new(folder.Name, folder);

    private static IReadOnlyList<DemoModelResult> RunAll(
        IReadOnlyList<DemoModel> models, Request request, Func<string, IProgressBar> addBar, CancellationToken cancellation)
    {
        var options = new ExperimentOptions
        {
            Prompts = request.IsQuick ? [s_prompts[0], s_prompts[^1]] : s_prompts,
            NewTokens = request.IsQuick ? QuickNewTokens : NewTokens,

            // A single model has to come to the required number of completions alone.
            ThoroughPrompts = request.IsQuick ? 0 : models.Count == 1 ? 2 : 1,
            Seed = request.Seed,
        };
        var work = models
            .SelectMany(model => new[] { (Model: model, Kernels: KernelSet.Stock), (Model: model, Kernels: KernelSet.BatchInvariant) })
            .Select(item => (item.Model, item.Kernels, Name: $"{item.Model.Title}, {(item.Kernels == KernelSet.Stock ? "stock" : "batch-invariant")}"))
            .Select(item => (item.Model, item.Kernels, item.Name, Bar: addBar(item.Name)))
            .ToList();
        ExperimentResult[] results =
        [
            .. work.Select(item => InvarianceExperiment.Run(
                item.Model.Folder,
                new HostOptions { Kernels = item.Kernels, Threads = request.Threads },
                options,
                new DirectProgress<ExperimentProgress>(step =>
                    item.Bar.Set(step.Completions, step.TotalCompletions, $"{item.Name}: {step.Axis}")),
                cancellation)),
        ];
        return [.. models.Select((model, i) => new DemoModelResult(model, results[2 * i], results[(2 * i) + 1]))];
    }
}
