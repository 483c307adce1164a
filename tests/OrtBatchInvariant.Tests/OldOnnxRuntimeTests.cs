using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Tests.Support;

namespace OrtBatchInvariant.Tests;

/// <summary>
/// The library's entry point, called as an old ONNX Runtime would call it: with a version string of its own, and with no API beyond
/// what that version has. The status is made by the real ONNX Runtime of this process.
/// </summary>
[Collection(NativeCollection.Name)]
public sealed unsafe class OldOnnxRuntimeTests
{
    private const int OldApiVersion = 20;

    // struct OrtApiBase { const OrtApi* (*GetApi)(uint32_t version); const char* (*GetVersionString)(void); }
    private static delegate* unmanaged<uint, nint*> s_realGetApi;

    [Fact]
    public void OldOnnxRuntimeIsRefusedInOneSentence()
    {
        _ = OrtEnv.Instance();
        nint library = NativeLibrary.Load(BatchInvariantProvider.GetLibraryPath());
        var createEpFactories = (delegate* unmanaged<byte*, nint*, nint, nint*, nuint, nuint*, nint>)NativeLibrary.GetExport(library, "CreateEpFactories");
        nint onnxRuntime = NativeLibrary.Load("onnxruntime", typeof(OrtEnv).Assembly, null);
        var realBase = ((delegate* unmanaged<nint*>)NativeLibrary.GetExport(onnxRuntime, "OrtGetApiBase"))();
        s_realGetApi = (delegate* unmanaged<uint, nint*>)realBase[0];

        nint* oldBase = stackalloc nint[2];
        oldBase[0] = (nint)(delegate* unmanaged<uint, nint*>)&GetApi;
        oldBase[1] = (nint)(delegate* unmanaged<byte*>)&GetVersionString;
        nint factory = 0;
        nuint count = 99;
        nint status;
        fixed (byte* name = "old\0"u8)
        {
            status = createEpFactories(name, oldBase, 0, &factory, 1, &count);
        }

        Assert.NotEqual(0, status);
        Assert.Equal(0, factory);
        Assert.Equal(0u, count);
        // OrtApi begins with CreateStatus, GetErrorCode, GetErrorMessage.
        string? message = Marshal.PtrToStringUTF8(((delegate* unmanaged<nint, nint>)s_realGetApi(1)[2])(status));
        Assert.Matches(@"needs ONNX Runtime 1\.\d+ or later, this is 1\.20\.0: update the package Microsoft\.ML\.OnnxRuntime$", message);
    }

    [UnmanagedCallersOnly]
    private static nint* GetApi(uint version) => version <= OldApiVersion ? s_realGetApi(version) : null;

    [UnmanagedCallersOnly]
    private static byte* GetVersionString() => (byte*)Unsafe.AsPointer(ref MemoryMarshal.GetReference("1.20.0\0"u8));
}
