using System.Runtime.CompilerServices;

namespace OrtBatchInvariant.Internal;

/// <summary>Ties a coverage report to the object that a session is created from, and frees a report with a made-up name.</summary>
internal sealed class CoverageReportLease
{
    private static readonly ConditionalWeakTable<object, CoverageReportLease> s_leases = [];

    private readonly bool _ownsReport;

    internal CoverageReportLease(string? reportId)
    {
        _ownsReport = reportId is null;
        ReportId = reportId ?? Guid.NewGuid().ToString("N");
        if (!_ownsReport)
        {
            GC.SuppressFinalize(this);
        }
    }

    ~CoverageReportLease()
    {
        // Without a loaded library there is no report, and a finalizer must not look for libraries.
        if (NativeLibraryFile.IsLoaded)
        {
            NativeCoverageReports.Release(ReportId);
        }
    }

    internal string ReportId { get; }

    internal static void Attach(object owner, CoverageReportLease lease) => s_leases.AddOrUpdate(owner, lease);

    internal static CoverageReport ReadFor(object owner, string ownerName, string call)
    {
        if (!s_leases.TryGetValue(owner, out CoverageReportLease? lease))
        {
            throw new BatchInvariantException($"There is no coverage report for {ownerName}: call {call} on it and create a session first.");
        }

        return NativeCoverageReports.TryRead(lease.ReportId) is { } json
            ? CoverageReport.Parse(json)
            : throw new BatchInvariantException($"There is no coverage report for {ownerName} yet: create a session from it first.");
    }

    internal IReadOnlyDictionary<string, string> AddTo(IReadOnlyDictionary<string, string> providerOptions) =>
        new Dictionary<string, string>(providerOptions) { ["report_id"] = ReportId };
}
