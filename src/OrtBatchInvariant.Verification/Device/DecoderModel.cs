using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>
/// A decoder in the GenAI layout as a bare <see cref="InferenceSession"/>, on the CPU or on a GPU. <see cref="DecoderBatch"/> runs it,
/// with KV buffers that stay on the device.
/// </summary>
public sealed class DecoderModel : IDisposable
{
    // Its coverage report is found by them.
    private readonly SessionOptions _sessionOptions;

    private int _graphs;

    private DecoderModel(
        ModelFolder folder, DecoderModelOptions options, SessionOptions sessionOptions, InferenceSession session, DecoderShape shape, OrtEpDevice? device)
    {
        _sessionOptions = sessionOptions;
        Folder = folder;
        Options = options;
        Session = session;
        Memory = new DeviceMemory(device);
        Coverage = ReadCoverage();
        DeviceName = device is null ? Processor.Name : Coverage?.Device ?? Processor.GpuName(device);
        Shape = shape;
    }

    /// <summary>The model's folder.</summary>
    public ModelFolder Folder { get; }

    /// <summary>Where and how it runs.</summary>
    public DecoderModelOptions Options { get; }

    /// <summary>Sizes and element types.</summary>
    public DecoderShape Shape { get; }

    /// <summary>Which kernel serves each node, as it was when the model was loaded; null with stock kernels.</summary>
    public CoverageReport? Coverage { get; }

    /// <summary>The processor or GPU that it runs on.</summary>
    public string DeviceName { get; }

    // Stock kernels multiply what lies behind the end of a KV buffer by zero, which NaN survives.
    internal bool PoisonsBuffers => Options.Kernels == KernelSet.BatchInvariant || Options.CustomOpLibrary is not null;

    internal InferenceSession Session { get; }

    internal DeviceMemory Memory { get; }

    /// <summary>Loads a model.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="options">Where and with whose kernels it runs; by default batch-invariant and on the CPU.</param>
    /// <exception cref="VerificationException">The device or the stock provider is missing, or ONNX Runtime refused the model.</exception>
    public static DecoderModel Open(ModelFolder folder, DecoderModelOptions? options = null) => Open(folder, options, graph: null);

    /// <param name="folder">The model.</param>
    /// <param name="options">Where and with whose kernels it runs.</param>
    /// <param name="graph">A changed form of its graph, with the same external data; null for the file's own.</param>
    internal static DecoderModel Open(ModelFolder folder, DecoderModelOptions? options, byte[]? graph)
    {
        ArgumentNullException.ThrowIfNull(folder);
        options ??= new DecoderModelOptions();
        if (options.DeviceId is null && (options.EnableCudaGraph || options.BesideStockCuda))
        {
            throw new VerificationException("CUDA graphs and ONNX Runtime's CUDA provider need a GPU: name one, or leave them out on the CPU.");
        }

        using SessionOptions sessionOptions = NewSessionOptions(options);
        InferenceSession? session = null;
        try
        {
            OrtEpDevice? device = AppendProviders(sessionOptions, options);
            session = NewSession(folder, graph, sessionOptions);
            return new DecoderModel(folder, options, sessionOptions, session, DecoderShape.Read(folder, session), device);
        }
        catch (Exception exception)
        {
            session?.Dispose();
            throw exception is OnnxRuntimeException or BatchInvariantException
                ? new VerificationException($"{folder.DecoderFile}: {OneLine(exception)}", exception)
                : exception;
        }
    }

    /// <summary>The coverage report as it is now, with the streams of all runs so far; null with stock kernels.</summary>
    public CoverageReport? ReadCoverage() => Options.Kernels == KernelSet.BatchInvariant ? CoverageReport.ForSession(_sessionOptions) : null;

    /// <summary>Ends the profile that <see cref="DecoderModelOptions.ProfilePrefix"/> asked for.</summary>
    /// <returns>The profile's file.</returns>
    public string EndProfiling() => Session.EndProfiling();

    /// <inheritdoc/>
    public void Dispose() => Session.Dispose();

    internal static string OneLine(Exception exception) => exception.Message.ReplaceLineEndings(" ").Trim();

    // Graphs hold the addresses of one batch's buffers.
    internal int NextGraph() => Interlocked.Increment(ref _graphs);

    // Errors come as exceptions.
    internal static SessionOptions NewSessionOptions(DecoderModelOptions options)
    {
        var sessionOptions = new SessionOptions { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL };
        if (options.ProfilePrefix is { } prefix)
        {
            sessionOptions.ProfileOutputPathPrefix = prefix;
            sessionOptions.EnableProfiling = true;
        }

        if (options.Threads is { } threads)
        {
            sessionOptions.IntraOpNumThreads = threads;
        }

        if (!options.OptimizesGraph)
        {
            sessionOptions.GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL;
        }

        return sessionOptions;
    }

    internal static InferenceSession NewSession(ModelFolder folder, byte[]? graph, SessionOptions sessionOptions)
    {
        if (graph is null)
        {
            return new InferenceSession(folder.DecoderFile, sessionOptions);
        }

        sessionOptions.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", folder.Path);
        return new InferenceSession(graph, sessionOptions);
    }

    internal static OrtEpDevice? AppendProviders(SessionOptions sessionOptions, DecoderModelOptions options)
    {
        OrtEpDevice? device = null;
        if (options.CustomOpLibrary is { } library)
        {
            sessionOptions.RegisterCustomOpLibraryV2(library, out _);
        }

        if (options.Kernels == KernelSet.BatchInvariant)
        {
            sessionOptions.AddSessionConfigEntry("ep.batchinvariantexecutionprovider.fuse", options.FusesNodes ? "1" : "0");
            sessionOptions.AppendBatchInvariant(new BatchInvariantOptions
            {
                DeviceId = options.DeviceId,
                EnableCudaGraph = options.EnableCudaGraph,
                Strict = options.Strict,
                InstructionSet = options.InstructionSet,
            });
            device = options.DeviceId is { } gpu ? BatchInvariantProvider.FindDevice(OrtEnv.Instance(), gpu) : null;
        }

        if (options.DeviceId is { } deviceId && (options.Kernels == KernelSet.Stock || options.BesideStockCuda))
        {
            OrtEpDevice stock = StockCuda.Device(deviceId);
            var stockOptions = new Dictionary<string, string>();
            if (options.EnableCudaGraph && options.Kernels == KernelSet.Stock)
            {
                stockOptions["enable_cuda_graph"] = "1";
            }

            sessionOptions.AppendExecutionProvider(OrtEnv.Instance(), [stock], stockOptions);
            device ??= stock;
        }

        return device;
    }
}
