using System.Runtime.InteropServices;

internal static partial class Interop
{
    internal static partial class BatchInvariant
    {
        /// <summary>The version of the library, UTF-8, owned by the library.</summary>
        [LibraryImport(Libraries.BatchInvariant, EntryPoint = "OrtBatchInvariant_Version")]
        internal static partial nint Version();
    }
}
