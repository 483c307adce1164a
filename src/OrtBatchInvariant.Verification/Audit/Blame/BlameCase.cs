using System.Globalization;
using Microsoft.ML.OnnxRuntime.Tensors;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Audit.Blame;

/// <summary>One axis whose logits differ, while the nodes that do it are looked for: a failing batch, and what it is compared with.</summary>
internal sealed class BlameCase
{
    private static readonly HashSet<int> s_noRuns = [];
    private static readonly Dictionary<string, ValueLayout> s_noLayouts = [];

    private readonly AuditText _text;
    private readonly BatchPlan _plan;
    private readonly List<BlamedNode> _introducing = [];
    private readonly List<NodeDifference> _differences = [];
    private Trace? _batchLogits;
    private HashSet<int> _examinedRuns = [];
    private int _row;
    private BlamedNode? _first;
    private int _examined;
    private string? _stopped;

    public BlameCase(AuditText text, AuditAxisResult axis, DecoderPool models)
    {
        _text = text;
        _plan = axis.Failing!;
        Axis = axis;

        // Without a difference from its baseline, what it is about is the number of rows.
        Baseline = axis.BaselineDifferent > 0 && _plan.Baseline is { } baseline ? baseline : text.AlonePlan;
        Options = models.OptionsFor(_plan);
        BaselineOptions = models.OptionsFor(Baseline);
    }

    public AuditAxisResult Axis { get; }

    public BatchPlan Baseline { get; }

    /// <summary>How the model is opened for the batch.</summary>
    public DecoderModelOptions Options { get; }

    /// <summary>How the model is opened for the baseline.</summary>
    public DecoderModelOptions BaselineOptions { get; }

    /// <summary>The baseline's logits with no value exposed.</summary>
    public Trace? BaselineLogits { get; set; }

    /// <summary>Whether the logits differ when the batch is run again.</summary>
    public bool IsFailing => _batchLogits is not null;

    /// <summary>Whether exposing values changed logits.</summary>
    public bool IsPerturbed { get; private set; }

    /// <summary>Tokens whose numbers are held at a time: the whole values of a few runs, and of each row's text its numbers so far, twice.</summary>
    public long TokensHeld => ((long)_plan.Rows * _examinedRuns.Sum(run => _plan.Runs.ElementAt(run))) + (2L * _text.Length);

    public Trace TraceBaseline(DecoderModel model, IReadOnlyDictionary<string, ValueLayout>? layouts = null) =>
        Trace.Run(model, _text, Baseline, FirstRow(Baseline), s_noRuns, layouts ?? s_noLayouts);

    public Trace TraceBatch(DecoderModel model, IReadOnlyDictionary<string, ValueLayout> layouts) =>
        Trace.Run(model, _text, _plan, _row, _examinedRuns, layouts);

    /// <summary>Runs the batch again and looks for a row and the run in which its logits first differ.</summary>
    public void FindFailing(DecoderModel model)
    {
        (int Row, int Run)? found = null;
        Trace.Run(model, _text, _plan, FirstRow(_plan), s_noRuns, s_noLayouts, (run, position, logits, token) =>
        {
            for (int row = 0; found is null && row < _plan.Rows; row++)
            {
                if (_plan.HoldsText(row) && !BaselineLogits!.HasLogits(position, logits.Bytes(row, token)))
                {
                    found = (row, run);
                }
            }
        });
        if (found is not { } at)
        {
            return;
        }

        // Where the logits first differ, where the prompt ends, and the end: kernels can have a path for each.
        int promptRun = _plan.Runs.Select((_, run) => run).First(run => _plan.Runs.Take(run + 1).Sum() >= _text.PromptLength);
        _row = at.Row;
        _examinedRuns = [at.Run, Math.Max(promptRun, at.Run), _plan.Runs.Count() - 1];
        _batchLogits = Trace.Run(model, _text, _plan, at.Row, s_noRuns, s_noLayouts);
    }

    /// <summary>Examines the nodes of a slice.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="options">How it is opened.</param>
    /// <param name="nodes">All its nodes.</param>
    /// <param name="slice">Those to examine.</param>
    /// <param name="shape">The model's inputs and outputs.</param>
    /// <param name="baseline">The baseline's values.</param>
    /// <param name="batch">The batch's values.</param>
    /// <param name="layouts">Where a token's numbers lie in each value.</param>
    public void Examine(
        ModelFolder folder,
        DecoderModelOptions options,
        DecoderNodes nodes,
        IReadOnlyList<DecoderNode> slice,
        DecoderShape shape,
        Trace baseline,
        Trace batch,
        IReadOnlyDictionary<string, ValueLayout> layouts)
    {
        IsPerturbed |= !baseline.HasSameLogits(BaselineLogits!) || !batch.HasSameLogits(_batchLogits!);
        var apart = new Dictionary<string, (NodeRun Run, TracedRun Shapes)>();
        foreach (TracedRun run in batch.Runs.OrderBy(run => run.Key).Select(run => run.Value))
        {
            foreach ((string node, NodeRun result) in NodesApart.Run(folder, options, nodes, slice, shape, baseline, run, layouts))
            {
                if (!apart.TryGetValue(node, out (NodeRun Run, TracedRun) other) || result.Difference.Relative > other.Run.Difference.Relative)
                {
                    apart[node] = (result, run);
                }
            }
        }

        _examined += apart.Count;
        foreach (DecoderNode node in slice)
        {
            Compare(node, baseline, batch, apart);
        }
    }

    /// <summary>Notes that time is up.</summary>
    public void StopBefore(DecoderNode node, TimeSpan limit) =>
        _stopped = $"After {limit.TotalSeconds.ToString("0", CultureInfo.InvariantCulture)} s nodes from '{node.Name}' on were left unexamined.";

    public BlameResult Result(bool optimizes) => new(
        Axis.Id,
        Axis.Name,
        _plan.Description,
        Against,
        _first,
        [.. _introducing.OrderByDescending(node => node.RelativeDifference).ThenBy(node => node.Order)],
        _differences,
        optimizes,
        _examined,
        _stopped ?? (IsPerturbed ? "Exposing values inside the graph changed the logits' bytes, so the nodes named here are those of the graph with its values exposed." : null));

    /// <summary>A result without nodes.</summary>
    public BlameResult Nothing(bool optimizes, string note) => new(Axis.Id, Axis.Name, _plan.Description, Against, null, [], [], optimizes, 0, note);

    private string Against => ReferenceEquals(Baseline, _text.AlonePlan) ? "the text alone" : Axis.Baseline;

    private static int FirstRow(BatchPlan plan) => Enumerable.Range(0, plan.Rows).First(plan.HoldsText);

    private void Compare(DecoderNode node, Trace baseline, Trace batch, IReadOnlyDictionary<string, (NodeRun Run, TracedRun Shapes)> apart)
    {
        TracedRun shapes = batch.Runs.MinBy(run => run.Key).Value;
        var difference = new Difference();
        foreach (string output in node.Outputs)
        {
            for (int position = 0; position < _text.Length; position++)
            {
                if (baseline.At(output, position) is { } expected && batch.At(output, position) is { } actual)
                {
                    difference.Add(FloatBits.Compare(TypeOf(shapes, output), expected, actual));
                }
            }
        }

        if (difference.Compared == 0)
        {
            return;
        }

        bool wasApart = apart.TryGetValue(node.Name, out (NodeRun Run, TracedRun Shapes) run);
        _differences.Add(new NodeDifference(node.Name, node.Order, DecoderNodes.LayerOf(node.Name), difference.Relative));
        if (difference.Different > 0)
        {
            _first ??= Blamed(node, wasApart ? run.Shapes : shapes, wasApart ? run.Run.Provider : "", difference);
        }

        if (wasApart && run.Run.Difference.Different > 0)
        {
            _introducing.Add(Blamed(node, run.Shapes, run.Run.Provider, run.Run.Difference));
        }
    }

    private static TensorElementType TypeOf(TracedRun trace, string value) =>
        trace.Values.TryGetValue(value, out HostTensor? tensor) ? tensor.Type : trace.CacheBefore[0].Type;

    private static BlamedNode Blamed(DecoderNode node, TracedRun run, string provider, Difference difference) => new(
        node.Name, node.Op, provider, $"{Shapes(node.Inputs, run)} -> {Shapes(node.Outputs, run)}",
        node.Order, difference.Compared, difference.Different, difference.MaxUlp, difference.Relative);

    private static string Shapes(IEnumerable<string> names, TracedRun run) => string.Join(
        ", ", names.Where(run.Values.ContainsKey).Select(name => $"{run.Values[name].Type.ToString().ToLowerInvariant()}[{string.Join(",", run.Values[name].Shape)}]"));
}
