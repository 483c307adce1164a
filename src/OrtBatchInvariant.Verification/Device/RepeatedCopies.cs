using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>Copies a tensor to a device and back, over and over in a thread of its own, as a host does that prepares its next inputs.</summary>
internal sealed class RepeatedCopies
{
    private const int Bytes = 1 << 16;

    private readonly DeviceMemory _memory;
    private readonly Thread _thread;
    private volatile bool _isStopping;
    private Exception? _error;

    public RepeatedCopies(DeviceMemory memory)
    {
        _memory = memory;
        _thread = new Thread(Run);
        _thread.Start();
    }

    /// <summary>Number of copies to the device and back so far.</summary>
    public int Count { get; private set; }

    /// <summary>Ends the copying.</summary>
    /// <exception cref="VerificationException">A copy failed, or came back with other bytes.</exception>
    public void Stop()
    {
        _isStopping = true;
        _thread.Join();
        if (_error is { } error)
        {
            throw new VerificationException($"A copy beside the runs of other threads failed: {DecoderModel.OneLine(error)}", error);
        }
    }

    private void Run()
    {
        try
        {
            using OrtValue source = DeviceMemory.AllocateHost(TensorElementType.Float16, Bytes / 2);
            using OrtValue back = DeviceMemory.AllocateHost(TensorElementType.Float16, Bytes / 2);
            using OrtValue device = _memory.Allocate(TensorElementType.Float16, Bytes / 2);
            var random = new Random(1);
            while (!_isStopping)
            {
                random.NextBytes(source.GetTensorMutableRawData());
                _memory.Copy(source, device);
                _memory.Copy(device, back);
                if (!source.GetTensorMutableRawData().SequenceEqual(back.GetTensorMutableRawData()))
                {
                    throw new VerificationException("a tensor came back from the device with other bytes");
                }

                Count++;
            }
        }
        catch (Exception exception)
        {
            _error = exception;
        }
    }
}
