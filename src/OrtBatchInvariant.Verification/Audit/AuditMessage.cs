using System.Globalization;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>What was found, in sentences.</summary>
internal static class AuditMessage
{
    private const int NamedNodes = 5;

    public static string Axis(AuditAxisResult axis) => string.Create(
        CultureInfo.InvariantCulture,
        $"{axis.ElementsDifferent:N0} of {axis.ElementsCompared:N0} logits differ, by up to {axis.MaxUlp:N0} ulp and {axis.MaxLogitDifference:G3}; the most likely token is another one in {axis.ArgmaxFlips:N0} of {axis.PositionsCompared:N0} positions{Parting(axis)}.");

    public static string Blame(BlameResult blame)
    {
        if (blame.First is not { } first)
        {
            return blame.Note ?? "";
        }

        string others = blame.Introducing.Count == 0 ? "" : $" Given equal inputs, these differ: {string.Join(", ", blame.Introducing.Take(NamedNodes).Select(node => $"'{node.Name}' ({node.Op})"))}"
            + (blame.Introducing.Count > NamedNodes ? $" and {blame.Introducing.Count - NamedNodes} more." : ".");
        return $"The first node whose output differs is '{first.Name}' ({first.Op}, {first.Provider}), {first.Shapes}.{others}";
    }

    private static string Parting(AuditAxisResult axis) =>
        axis.FirstParting is { } token ? $"; greedy texts part at token {(token + 1).ToString(CultureInfo.InvariantCulture)}" : "";
}
