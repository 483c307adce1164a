using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>Tensors in the memory of the device that a session runs on, allocated by its provider.</summary>
internal sealed class DeviceMemory
{
    private readonly OrtAllocator _allocator;
    private readonly OrtEnv _environment = OrtEnv.Instance();

    /// <param name="device">A GPU's provider device; null for host memory.</param>
    public DeviceMemory(OrtEpDevice? device)
    {
        IsHost = device is null;
        _allocator = device is null ? OrtAllocator.DefaultInstance : SharedAllocator(device);
    }

    public bool IsHost { get; }

    /// <summary>Names this memory where outputs are bound.</summary>
    public OrtMemoryInfo Info => _allocator.Info;

    /// <summary>An uninitialised tensor on the device.</summary>
    /// <exception cref="VerificationException">The device has no memory left for it.</exception>
    public OrtValue Allocate(TensorElementType type, params long[] shape)
    {
        OrtValue? value = null;
        string reason = "the allocator returned nothing";
        try
        {
            value = OrtValue.CreateAllocatedTensorValue(_allocator, type, shape);
            if (IsNull(value, type, shape))
            {
                value.Dispose();
                value = null;
            }
        }
        catch (OnnxRuntimeException exception)
        {
            reason = exception.Message.ReplaceLineEndings(" ").TrimEnd('.', ' ');
        }

        return value ?? throw new VerificationException(
            $"{(IsHost ? "This machine" : "The GPU")} has no memory left for a tensor of type {type} and shape [{string.Join(", ", shape)}]: use fewer rows or a shorter KV buffer ({reason}).");
    }

    /// <summary>A tensor on the host, of which the bytes can be reached.</summary>
    public static OrtValue AllocateHost(TensorElementType type, params long[] shape) =>
        OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, type, shape);

    /// <summary>A part of a tensor as a tensor of its own, whose memory is the first one's.</summary>
    /// <param name="whole">The tensor; it must outlive the part.</param>
    /// <param name="type">Its element type.</param>
    /// <param name="shape">The part's shape.</param>
    /// <param name="offset">Bytes before the part.</param>
    public static unsafe OrtValue Slice(OrtValue whole, TensorElementType type, long[] shape, long offset)
    {
        // The address alone: memory of a GPU cannot be read through the span.
        byte* start = (byte*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(whole.GetTensorMutableRawData()));
        long bytes = shape.Aggregate((long)DecoderShape.ElementBytes(type), (product, size) => product * size);
        return OrtValue.CreateTensorValueWithData(whole.GetTensorMemoryInfo(), type, shape, (nint)(start + offset), bytes);
    }

    /// <summary>Copies between tensors of one type and shape, on the host or on the device.</summary>
    public void Copy(OrtValue source, OrtValue target)
    {
        if (IsHost)
        {
            source.GetTensorMutableRawData().CopyTo(target.GetTensorMutableRawData());
        }
        else
        {
            _environment.CopyTensors([source], [target], null);
        }
    }

    /// <summary>The bytes of a tensor in this memory.</summary>
    public HostTensor ToHost(OrtValue value)
    {
        OrtTensorTypeAndShapeInfo info = value.GetTensorTypeAndShape();
        using OrtValue host = AllocateHost(info.ElementDataType, info.Shape);
        if (info.ElementCount > 0)
        {
            Copy(value, host);
        }

        return HostTensor.From(host)!;
    }

    /// <summary>Sets every byte of a tensor.</summary>
    public void Fill(OrtValue target, TensorElementType type, byte value, params long[] shape)
    {
        if (IsHost)
        {
            target.GetTensorMutableRawData().Fill(value);
            return;
        }

        using OrtValue host = AllocateHost(type, shape);
        host.GetTensorMutableRawData().Fill(value);
        Copy(host, target);
    }

    // Some versions of ONNX Runtime make a tensor without memory when an allocator has none. A span reaches no further than 2 GiB.
    private static bool IsNull(OrtValue value, TensorElementType type, long[] shape) =>
        shape.Aggregate((long)DecoderShape.ElementBytes(type), (bytes, size) => bytes * size) is > 0 and <= int.MaxValue
        && Unsafe.IsNullRef(in MemoryMarshal.GetReference(value.GetTensorMutableRawData()));

    private OrtAllocator SharedAllocator(OrtEpDevice device) =>
        _environment.GetSharedAllocator(device.GetMemoryInfo(OrtDeviceMemoryType.DEFAULT))
        ?? _environment.CreateSharedAllocator(device, OrtDeviceMemoryType.DEFAULT, OrtAllocatorType.DeviceAllocator, new Dictionary<string, string>());
}
