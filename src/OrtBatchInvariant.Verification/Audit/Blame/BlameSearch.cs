using Microsoft.ML.OnnxRuntime.Tensors;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Audit.Blame;

/// <summary>
/// Names the nodes that make a batch's logits differ from those of the text alone. Values inside the graph are exposed as further
/// outputs, a slice of the graph at a time, and compared position by position. Then each node is run by itself in the batch's shapes,
/// given the very values that it had when the text was alone: if its output still differs, it introduces the difference.
/// </summary>
/// <remarks>
/// A value that is an output can keep ONNX Runtime from fusing the nodes around it. So everything is done with graph optimisations off,
/// the batch and the text alone alike, if the logits still differ then; otherwise with optimisations on and whatever fusions are left.
/// </remarks>
internal sealed class BlameSearch
{
    private readonly ModelFolder _folder;
    private readonly DecoderModelOptions _options;
    private readonly AuditText _text;
    private readonly AuditAxisResult _axis;
    private readonly BatchPlan _plan;
    private readonly DecoderNodes _nodes;
    private readonly IProgress<AuditProgress>? _progress;
    private readonly CancellationToken _cancellation;
    private readonly HashSet<int> _noRuns = [];
    private readonly List<BlamedNode> _introducing = [];
    private readonly List<NodeDifference> _differences = [];
    private BlamedNode? _first;
    private int _examined;
    private bool _perturbed;

    private BlameSearch(
        DecoderPool models, AuditText text, AuditAxisResult axis, bool optimizes, IProgress<AuditProgress>? progress, CancellationToken cancellation)
    {
        _folder = models.Base.Folder;
        _text = text;
        _axis = axis;
        _plan = axis.Failing!;
        _nodes = new DecoderNodes(_folder);
        _options = models.OptionsFor(_plan) with { OptimizesGraph = optimizes, Strict = false, EnableCudaGraph = false };
        _progress = progress;
        _cancellation = cancellation;
    }

    /// <summary>Examines the failing batch of an axis.</summary>
    public static BlameResult Run(
        DecoderPool models, AuditText text, AuditAxisResult axis, IProgress<AuditProgress>? progress, CancellationToken cancellation)
    {
        models.ReleaseOther();
        foreach (bool optimizes in (bool[])[false, true])
        {
            if (new BlameSearch(models, text, axis, optimizes, progress, cancellation).Run() is { } result)
            {
                return result;
            }
        }

        return new BlameResult(
            axis.Name, axis.Failing!.Description, null, [], [], true, 0,
            "The difference did not come back when the batch was run again with values inside the graph exposed, so no node can be named.");
    }

    private BlameResult? Run()
    {
        if (FindFailing() is not { } failing)
        {
            return null;
        }

        IReadOnlyDictionary<string, ValueProbe> probes = ValueProbe.All(_folder, _options, _nodes);
        List<List<DecoderNode>> slices = Slices(probes, failing);
        for (int i = 0; i < slices.Count; i++)
        {
            _cancellation.ThrowIfCancellationRequested();
            _progress?.Report(new AuditProgress("blame", i, slices.Count));
            if (!Examine(slices[i], probes, failing) && _options.OptimizesGraph)
            {
                return null;
            }
        }

        _progress?.Report(new AuditProgress("blame", slices.Count, slices.Count));
        return new BlameResult(
            _axis.Name,
            _plan.Description,
            _first,
            [.. _introducing.OrderByDescending(node => node.RelativeDifference).ThenBy(node => node.Order)],
            _differences,
            _options.OptimizesGraph,
            _examined,
            _perturbed ? "Exposing values inside the graph changed the logits' bytes, so the nodes named here are those of the graph with its values exposed." : null);
    }

    // A row and the run in which its logits first differ.
    private Failing? FindFailing()
    {
        using DecoderModel model = DecoderModel.Open(_folder, _options);
        var none = new Dictionary<string, ValueLayout>();
        var reference = new byte[_text.Length][];
        BatchPlan alone = AxisPlans.Alone(_text);
        Trace aloneTrace = Trace.Run(
            model, _text, alone, 0, alone.Runs.Count(), _noRuns, none, (_, position, logits, token) => reference[position] = logits.Bytes(0, token).ToArray());
        (int Row, int Run)? found = null;
        Trace.Run(model, _text, _plan, FirstRow, _plan.Runs.Count(), _noRuns, none, (run, position, logits, token) =>
        {
            for (int row = 0; found is null && row < _plan.Rows; row++)
            {
                if (_plan.HoldsText(row) && !logits.Bytes(row, token).SequenceEqual(reference[position]))
                {
                    found = (row, run);
                }
            }
        });
        if (found is not { } at)
        {
            return null;
        }

        // Where the logits first differ, where the prompt ends, and the end: kernels can have a path for each.
        int promptRun = _plan.Runs.Select((_, run) => run).First(run => _plan.Runs.Take(run + 1).Sum() >= _text.PromptLength);
        HashSet<int> examined = [at.Run, Math.Max(promptRun, at.Run), _plan.Runs.Count() - 1];
        return new Failing(at.Row, examined, _text.Length, aloneTrace, Trace.Run(model, _text, _plan, at.Row, _plan.Runs.Count(), _noRuns, none));
    }

    private int FirstRow => Enumerable.Range(0, _plan.Rows).First(_plan.HoldsText);

    private List<List<DecoderNode>> Slices(IReadOnlyDictionary<string, ValueProbe> probes, Failing failing)
    {
        // The whole values of a few runs, and of each row's text its numbers so far, twice.
        long tokens = ((long)_plan.Rows * failing.Examined.Sum(run => _plan.Runs.ElementAt(run))) + (2L * failing.End);
        var slices = new List<List<DecoderNode>> { new() };
        long bytes = 0;
        foreach (DecoderNode node in _nodes.Nodes)
        {
            long more = node.Outputs.Concat(node.Inputs).Sum(name => probes.TryGetValue(name, out ValueProbe? probe) ? probe.BytesPerToken : 0) * tokens;
            if (bytes + more > _text.Options.BlameBytes && slices[^1].Count > 0)
            {
                slices.Add([]);
                bytes = 0;
            }

            slices[^1].Add(node);
            bytes += more;
        }

        return slices;
    }

    // False if exposing the values changed the logits.
    private bool Examine(List<DecoderNode> slice, IReadOnlyDictionary<string, ValueProbe> probes, Failing failing)
    {
        HashSet<string> shown = [.. slice.SelectMany(node => node.Outputs).Concat(_nodes.Inner(slice)).Where(name => probes.ContainsKey(name))];
        Dictionary<string, ValueLayout> layouts = probes.Where(item => item.Value.Layout is not null).ToDictionary(item => item.Key, item => item.Value.Layout!);
        Trace alone;
        Trace batch;
        DecoderShape shape;
        using (DecoderModel model = ValueProbe.Open(_folder, _options, _nodes, shown))
        {
            shape = model.Shape;
            BatchPlan plan = AxisPlans.Alone(_text);
            alone = Trace.Run(model, _text, plan, 0, plan.Runs.Count(), _noRuns, layouts);
            batch = Trace.Run(model, _text, _plan, failing.Row, _plan.Runs.Count(), failing.Examined, layouts);
        }

        bool isFaithful = alone.HasSameLogits(failing.Alone) && batch.HasSameLogits(failing.Batch);
        _perturbed |= !isFaithful;
        var apart = new Dictionary<string, (NodeRun Run, TracedRun Shapes)>();
        foreach (TracedRun run in batch.Runs.OrderBy(run => run.Key).Select(run => run.Value))
        {
            foreach ((string node, NodeRun result) in NodesApart.Run(_folder, _options, _nodes, slice, shape, alone, run, layouts))
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
            Compare(node, alone, batch, apart, failing.End);
        }

        return isFaithful;
    }

    private void Compare(DecoderNode node, Trace alone, Trace batch, IReadOnlyDictionary<string, (NodeRun Run, TracedRun Shapes)> apart, int end)
    {
        TracedRun shapes = batch.Runs.MinBy(run => run.Key).Value;
        var difference = new Difference();
        foreach (string output in node.Outputs)
        {
            for (int position = 0; position < end; position++)
            {
                if (alone.At(output, position) is { } expected && batch.At(output, position) is { } actual)
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

    private sealed record Failing(int Row, IReadOnlySet<int> Examined, int End, Trace Alone, Trace Batch);
}
