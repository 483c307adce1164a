namespace OrtBatchInvariant.Internal;

/// <summary>The coverage reports that the native library keeps.</summary>
internal static class NativeCoverageReports
{
    /// <summary>The JSON of a report, or null if there is none.</summary>
    internal static string? TryRead(string reportId)
    {
        NativeLibraryFile.Load(null);
        return NativeText.Read((buffer, capacity) => Interop.BatchInvariant.GetCoverageReport(reportId, buffer, capacity));
    }

    internal static void Release(string reportId)
    {
        NativeLibraryFile.Load(null);
        Interop.BatchInvariant.ReleaseCoverageReport(reportId);
    }
}
