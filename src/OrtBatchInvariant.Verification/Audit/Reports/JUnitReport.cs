using System.Globalization;
using System.Xml.Linq;
using OrtBatchInvariant.Verification.Audit.Serving;

namespace OrtBatchInvariant.Verification.Audit.Reports;

/// <summary>A report as JUnit XML, which build servers read: a suite for each provider, a case for each axis.</summary>
public static class JUnitReport
{
    /// <summary>The XML.</summary>
    /// <param name="report">What was found.</param>
    public static string Write(VerificationReport report)
    {
        ArgumentNullException.ThrowIfNull(report);
        var suites = new XElement(
            "testsuites",
            report.Audits.Select(Suite).Concat(report.Completions.Select(Suite)),
            report.IsComplete ? null : Suite("ortbi verify", 0, [Case("complete", "", new XElement("error", new XAttribute("message", "The run was stopped; this is what there was.")))]));
        return new XDocument(new XDeclaration("1.0", "utf-8", null), suites).ToStringWithDeclaration();
    }

    private static XElement Suite(AuditResult audit) => Suite(
        $"{audit.Subject.Model}, {audit.Subject.Provider}", audit.Seconds, audit.Axes.Select(axis => Case(axis.Name, Name(audit.Subject), Outcome(audit, axis))));

    private static XElement Suite(ServingResult result) => Suite(
        $"{result.Subject.Model}, {result.Kernels}, completions", result.Seconds,
        result.Decodings.Select(decoding => Case(decoding.Decoding, Name(result.Subject), decoding.IsInvariant ? null
            : new XElement("failure", new XAttribute(
                "message", $"{decoding.Completions} completions of one prompt have {(decoding.DistinctLogits is { } logits ? $"{logits} different logits and " : "")}{decoding.DistinctTexts} different texts.")))));

    private static XElement Suite(string name, double seconds, IEnumerable<XElement> cases)
    {
        XElement[] all = [.. cases];
        return new XElement(
            "testsuite",
            new XAttribute("name", name),
            new XAttribute("tests", all.Length),
            new XAttribute("failures", all.Count(item => item.Element("failure") is not null)),
            new XAttribute("errors", all.Count(item => item.Element("error") is not null)),
            new XAttribute("skipped", all.Count(item => item.Element("skipped") is not null)),
            new XAttribute("time", seconds.ToString(CultureInfo.InvariantCulture)),
            all);
    }

    private static XElement Case(string name, string group, XElement? outcome) =>
        new("testcase", new XAttribute("name", name), new XAttribute("classname", group), outcome);

    private static string Name(AuditSubject subject) => $"ortbi.verify.{subject.Model}.{subject.Provider}";

    private static XElement? Outcome(AuditResult audit, AuditAxisResult axis) => axis switch
    {
        { Varies: true } => new XElement("failure", new XAttribute("message", AuditMessage.Axis(axis)), audit.Blames.FirstOrDefault(blame => blame.AxisId == axis.Id) is { } blame ? AuditMessage.Blame(blame) : ""),
        { ElementsCompared: 0 } => new XElement("skipped", new XAttribute("message", axis.NotRun ?? "nothing was compared")),
        _ => null,
    };

    private static string ToStringWithDeclaration(this XDocument document) => $"{document.Declaration}\n{document}\n";
}
