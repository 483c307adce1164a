using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>A model of products that all read one input [rows, K] and write [rows, N] each, for timing.</summary>
public sealed class ProductSession : IDisposable
{
    private readonly InferenceSession _session;
    private readonly DeviceMemory _memory;
    private readonly bool _captures;
    private int _graphs;

    private ProductSession(InferenceSession session, OrtEpDevice? device, bool captures)
    {
        _session = session;
        _memory = new DeviceMemory(device);
        _captures = captures;
    }

    /// <summary>Loads a model.</summary>
    /// <param name="file">The model, of fp16 or bf16.</param>
    /// <param name="options">Where and with whose kernels it runs.</param>
    /// <exception cref="VerificationException">The device or the stock provider is missing, or ONNX Runtime refused the model.</exception>
    public static ProductSession Open(string file, DecoderModelOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        using SessionOptions sessionOptions = DecoderModel.NewSessionOptions(options);
        try
        {
            OrtEpDevice? device = DecoderModel.AppendProviders(sessionOptions, options);
            return new ProductSession(new InferenceSession(file, sessionOptions), device, options.EnableCudaGraph);
        }
        catch (Exception exception) when (exception is OnnxRuntimeException or BatchInvariantException)
        {
            throw new VerificationException($"{file}: {DecoderModel.OneLine(exception)}", exception);
        }
    }

    /// <summary>Opens a run of all products over random numbers, everything bound on the device.</summary>
    /// <param name="rows">Rows of the input.</param>
    public TimedRun Time(int rows)
    {
        var run = new BoundRun(_session.CreateIoBinding());
        (string name, NodeMetadata input) = _session.InputMetadata.Single();
        OrtValue a = run.Own(_memory.Allocate(input.ElementDataType, rows, input.Dimensions[^1]));
        using (OrtValue host = DeviceMemory.AllocateHost(input.ElementDataType, rows, input.Dimensions[^1]))
        {
            Fill(MemoryMarshal.Cast<byte, ushort>(host.GetTensorMutableRawData()), input.ElementDataType);
            _memory.Copy(host, a);
        }

        run.Binding.BindInput(name, a);
        foreach ((string output, NodeMetadata metadata) in _session.OutputMetadata)
        {
            run.Binding.BindOutput(output, run.Own(_memory.Allocate(metadata.ElementDataType, rows, metadata.Dimensions[^1])));
        }

        if (_captures)
        {
            run.Options.AddRunConfigEntry("gpu_graph_id", (++_graphs).ToString(CultureInfo.InvariantCulture));
        }

        return new TimedRun(run, () => _session.RunWithBinding(run.Options, run.Binding));
    }

    /// <inheritdoc/>
    public void Dispose() => _session.Dispose();

    // Between -1 and 1.
    private static void Fill(Span<ushort> elements, TensorElementType type)
    {
        var random = new Random(8);
        foreach (ref ushort element in elements)
        {
            float value = (2 * random.NextSingle()) - 1;
            element = type == TensorElementType.BFloat16 ? (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16) : BitConverter.HalfToUInt16Bits((Half)value);
        }
    }

    private sealed class BoundRun(OrtIoBinding binding) : IDisposable
    {
        private readonly List<OrtValue> _owned = [];

        public OrtIoBinding Binding => binding;

        public RunOptions Options { get; } = new();

        public OrtValue Own(OrtValue value)
        {
            _owned.Add(value);
            return value;
        }

        public void Dispose()
        {
            binding.Dispose();
            Options.Dispose();
            _owned.ForEach(value => value.Dispose());
        }
    }
}
