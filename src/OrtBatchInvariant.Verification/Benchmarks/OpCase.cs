using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace OrtBatchInvariant.Verification.Benchmarks;

/// <summary>One operator with weights of one shape.</summary>
/// <param name="Op">What the table calls it.</param>
/// <param name="Shape">The sizes other than the number of rows.</param>
/// <param name="Dtype">The type of the weights and, where that matters, of the arithmetic.</param>
/// <param name="Model">Makes the model.</param>
/// <param name="Runs">The row counts to run it with.</param>
internal sealed record OpCase(string Op, string Shape, string Dtype, Func<byte[]> Model, IReadOnlyList<OpRun> Runs);

/// <summary>One operator with one number of rows.</summary>
/// <param name="Rows">The number of rows: tokens, or sequences of a batch.</param>
/// <param name="Flops">The fp32 operations that the result needs.</param>
/// <param name="Bytes">The bytes that must be read and written.</param>
/// <param name="Values">Makes the inputs and outputs.</param>
internal sealed record OpRun(int Rows, double Flops, double Bytes, Func<OpValues> Values);

/// <summary>The inputs and outputs of a run, allocated once.</summary>
internal sealed class OpValues : IDisposable
{
    private readonly List<string> _inputNames = [];
    private readonly List<OrtValue> _inputs = [];
    private readonly List<string> _outputNames = [];
    private readonly List<OrtValue> _outputs = [];
    private readonly Random _random = new(1);

    /// <summary>An input of random numbers, about normal.</summary>
    public OpValues Input(string name, params long[] dims) => Input(name, TensorElementType.Float, dims);

    /// <summary>An input of random numbers, about normal, in float32 or float16.</summary>
    public OpValues Input(string name, TensorElementType type, params long[] dims)
    {
        OrtValue value = Allocate(type, dims);
        if (type == TensorElementType.Float16)
        {
            foreach (ref Half element in MemoryMarshal.Cast<byte, Half>(value.GetTensorMutableRawData()))
            {
                element = (Half)RandomNumbers.Normal(_random);
            }
        }
        else
        {
            foreach (ref float element in value.GetTensorMutableDataAsSpan<float>())
            {
                element = RandomNumbers.Normal(_random);
            }
        }

        return Add(name, value);
    }

    /// <summary>An input of given numbers.</summary>
    public OpValues Input<T>(string name, T[] data, params long[] dims)
        where T : unmanaged => Add(name, OrtValue.CreateTensorValueFromMemory(data, dims));

    public OpValues Output(string name, params long[] dims) => Output(name, TensorElementType.Float, dims);

    public OpValues Output(string name, TensorElementType type, params long[] dims)
    {
        _outputNames.Add(name);
        _outputs.Add(Allocate(type, dims));
        return this;
    }

    /// <summary>An output in the memory of an input.</summary>
    public OpValues OutputInPlace(string name, string input)
    {
        _outputNames.Add(name);
        _outputs.Add(_inputs[_inputNames.IndexOf(input)]);
        return this;
    }

    public void Run(InferenceSession session, RunOptions options) =>
        session.Run(options, _inputNames, _inputs, _outputNames, _outputs);

    public void Dispose()
    {
        foreach (OrtValue value in _inputs.Union(_outputs))
        {
            value.Dispose();
        }
    }

    private static OrtValue Allocate(TensorElementType type, long[] dims) =>
        OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, type, dims);

    private OpValues Add(string name, OrtValue value)
    {
        _inputNames.Add(name);
        _inputs.Add(value);
        return this;
    }
}
