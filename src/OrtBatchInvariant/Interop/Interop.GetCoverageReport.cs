using System.Runtime.InteropServices;

internal static partial class Interop
{
    internal static partial class BatchInvariant
    {
        /// <summary>Copies a coverage report as UTF-8 JSON with a final NUL, cut to the capacity.</summary>
        /// <returns>The report's length in bytes without the NUL; -1 if there is no such report.</returns>
        [LibraryImport(Libraries.BatchInvariant, EntryPoint = "OrtBatchInvariant_GetCoverageReport", StringMarshalling = StringMarshalling.Utf8)]
        internal static partial int GetCoverageReport(string reportId, [Out] byte[] buffer, int capacity);
    }
}
