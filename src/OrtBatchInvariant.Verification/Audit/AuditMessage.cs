using System.Globalization;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>What was found, in sentences.</summary>
public static class AuditMessage
{
    private const int NamedNodes = 5;

    /// <summary>How the logits of an axis differ.</summary>
    public static string Axis(AuditAxisResult axis) => string.Create(
        CultureInfo.InvariantCulture,
        $"{axis.ElementsDifferent:N0} of {axis.ElementsCompared:N0} logits differ from those of the text alone ({axis.BaselineDifferent:N0} from: {axis.Baseline}), by up to {axis.MaxUlp:N0} ulp and {axis.MaxLogitDifference:G3}; the most likely token is another one in {axis.ArgmaxFlips:N0} of {axis.PositionsCompared:N0} positions{Parting(axis)}.");

    /// <summary>The first node that differs, and those that introduce a difference.</summary>
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

    /// <summary>How often each op introduces a difference, the most frequent first.</summary>
    public static string Ops(BlameResult blame) => string.Join(
        ", ", blame.Introducing.GroupBy(node => node.Op).OrderByDescending(group => group.Count()).Select(group => $"{group.Count()} {group.Key}"));

    private static string Parting(AuditAxisResult axis) =>
        axis.FirstParting is { } token ? $"; greedy texts part at token {(token + 1).ToString(CultureInfo.InvariantCulture)}" : "";
}
