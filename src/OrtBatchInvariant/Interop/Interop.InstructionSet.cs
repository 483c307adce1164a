using System.Runtime.InteropServices;

internal static partial class Interop
{
    internal static partial class BatchInvariant
    {
        /// <summary>The kernels that this process uses (scalar, avx2, avx512 or neon), UTF-8, owned by the library.</summary>
        [LibraryImport(Libraries.BatchInvariant, EntryPoint = "OrtBatchInvariant_InstructionSet")]
        internal static partial nint InstructionSet();
    }
}
