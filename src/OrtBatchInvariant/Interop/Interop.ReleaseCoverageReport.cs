using System.Runtime.InteropServices;

internal static partial class Interop
{
    internal static partial class BatchInvariant
    {
        /// <summary>Frees a coverage report. Does nothing if there is none of this name.</summary>
        [LibraryImport(Libraries.BatchInvariant, EntryPoint = "OrtBatchInvariant_ReleaseCoverageReport", StringMarshalling = StringMarshalling.Utf8)]
        internal static partial void ReleaseCoverageReport(string reportId);
    }
}
