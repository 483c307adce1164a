using System.Diagnostics;
using OrtBatchInvariant.Cli.Verify;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Cli.Demo;

/// <summary>What the demo runs on a device, in a decode loop of its own with KV buffers that stay there.</summary>
/// <param name="DeviceId">The GPU, as CUDA counts it; null for the CPU.</param>
/// <param name="Prompt">The prompt, as tokens; null for random ones.</param>
/// <param name="Completions">Number of completions of the prompt, with each set of kernels and each way of choosing tokens.</param>
/// <param name="NewTokens">Tokens of a completion.</param>
/// <param name="MaxRows">The largest batch.</param>
/// <param name="Seed">What batches and neighbours are drawn from.</param>
internal sealed record DeviceDemoOptions(int? DeviceId, int[]? Prompt, int Completions, int NewTokens, int MaxRows, int Seed);

/// <summary>One prompt, over and over among random neighbours that join and leave the batch.</summary>
internal static class DeviceDemo
{
    // Long enough that stock kernels choose by the number of rows.
    private const int RandomPromptTokens = 150;

    /// <summary>Whether stock kernels can run there: on a GPU, where ONNX Runtime's own CUDA provider is installed.</summary>
    public static bool HasStock(int? deviceId) => deviceId is null || StockCuda.Devices().Count > 0;

    /// <summary>Refuses a GPU that is not there.</summary>
    /// <exception cref="VerificationException">It is not there, or cannot be used.</exception>
    public static void CheckDevice(int deviceId)
    {
        int count = BatchInvariantProvider.CountGpus();
        if (count == 0)
        {
            throw new VerificationException(
                "--device cuda finds no GPU: it needs an NVIDIA GPU of compute capability 8.0 or later, its driver, and a native library that was built with CUDA (CUDA=ON scripts/build-native.sh); --device cpu runs the demo without one.");
        }

        if (deviceId >= count)
        {
            throw new VerificationException($"--device-id is {deviceId}, but there are {count} GPUs here, counted from 0.");
        }
    }

    public static DeviceDemoResult Run(
        IReadOnlyList<DemoModel> models, DeviceDemoOptions options, Func<string, IProgressBar> addBar, CancellationToken cancellation)
    {
        long start = Stopwatch.GetTimestamp();
        KernelSet[] kernelSets = HasStock(options.DeviceId) ? [KernelSet.Stock, KernelSet.BatchInvariant] : [KernelSet.BatchInvariant];
        var work = models
            .SelectMany(model => kernelSets.Select(kernels => (Model: model, Kernels: kernels)))
            .Select(item => (item.Model, item.Kernels, Bar: addBar($"{item.Model.Title}, {(item.Kernels == KernelSet.Stock ? "stock" : "batch-invariant")}")))
            .ToList();
        CoverageReport? coverage = null;
        var results = new Dictionary<(DemoModel, KernelSet), ServingResult>();
        foreach ((DemoModel model, KernelSet kernels, IProgressBar bar) in work)
        {
            using DecoderModel decoder = DecoderModel.Open(model.Folder, new DecoderModelOptions { DeviceId = options.DeviceId, Kernels = kernels });
            coverage ??= decoder.Coverage;
            var serving = new ServingOptions
            {
                Prompt = options.Prompt ?? PromptReader.Draw(decoder, Math.Min(RandomPromptTokens, decoder.Shape.ContextLength / 4), options.Seed),
                Completions = options.Completions,
                NewTokens = options.NewTokens,
                MaxRows = options.MaxRows,
                Seed = options.Seed,
            };
            results[(model, kernels)] = ServingExperiment.Run(decoder, serving, new DirectProgress<(int Done, int Total)>(step => bar.Set(step.Done, step.Total, null)), cancellation);
            cancellation.ThrowIfCancellationRequested();
        }

        return new DeviceDemoResult(
            coverage!.Device,
            coverage.SelfTest,
            [.. models.Select(model => new DeviceDemoModelResult(model, results.GetValueOrDefault((model, KernelSet.Stock)), results[(model, KernelSet.BatchInvariant)]))],
            options.Seed,
            Stopwatch.GetElapsedTime(start));
    }
}

/// <summary>What a model did on the device; without stock kernels where there are none.</summary>
internal sealed record DeviceDemoModelResult(DemoModel Model, ServingResult? Stock, ServingResult BatchInvariant);

/// <summary>What the demo found on a device.</summary>
/// <param name="Device">The device.</param>
/// <param name="SelfTest">What was compared on it at start-up.</param>
/// <param name="Models">The results, a model each.</param>
/// <param name="Seed">What batches and neighbours were drawn from.</param>
/// <param name="Elapsed">How long it took.</param>
internal sealed record DeviceDemoResult(string Device, string SelfTest, IReadOnlyList<DeviceDemoModelResult> Models, int Seed, TimeSpan Elapsed)
{
    public bool Passed => Models.All(model => model.BatchInvariant.IsInvariant);
}
