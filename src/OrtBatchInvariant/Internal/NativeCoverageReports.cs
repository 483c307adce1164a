using System.Text;

namespace OrtBatchInvariant.Internal;

/// <summary>The coverage reports that the native library keeps.</summary>
internal static class NativeCoverageReports
{
    /// <summary>The JSON of a report, or null if there is none.</summary>
    internal static string? TryRead(string reportId)
    {
        NativeLibraryFile.Load(null);
        byte[] buffer = [];
        while (true)
        {
            int length = Interop.BatchInvariant.GetCoverageReport(reportId, buffer, buffer.Length);
            if (length < 0)
            {
                return null;
            }

            if (length < buffer.Length)
            {
                return Encoding.UTF8.GetString(buffer, 0, length);
            }

            buffer = new byte[length + 1];
        }
    }

    internal static void Release(string reportId)
    {
        NativeLibraryFile.Load(null);
        Interop.BatchInvariant.ReleaseCoverageReport(reportId);
    }
}
