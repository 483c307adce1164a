using System.Runtime.InteropServices;

internal static partial class Interop
{
    internal static partial class BatchInvariant
    {
        /// <summary>Copies the list of operators that are invariant by nature as UTF-8 JSON with a final NUL, cut to the capacity.</summary>
        /// <returns>The list's length in bytes without the NUL; negative if there is no memory for it.</returns>
        [LibraryImport(Libraries.BatchInvariant, EntryPoint = "OrtBatchInvariant_GetInvariantOps")]
        internal static partial int GetInvariantOps([Out] byte[] buffer, int capacity);
    }
}
