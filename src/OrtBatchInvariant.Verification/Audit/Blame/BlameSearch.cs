using System.Diagnostics;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Audit.Blame;

/// <summary>
/// Names the nodes that make a batch's logits differ from those of its baseline, for several axes together. Values inside the graph are
/// exposed as further outputs, a slice of the graph at a time, and compared position by position; a session serves all axes that can
/// share it, and so does what the text alone gave. Then each node is run by itself in the batch's shapes, given the very values that it
/// had in the baseline: if its output still differs, it introduces the difference.
/// </summary>
/// <remarks>
/// A value that is an output can keep ONNX Runtime from fusing the nodes around it. So everything is done with graph optimisations off,
/// the batch and its baseline alike, if the logits still differ then; otherwise with optimisations on and whatever fusions are left.
/// </remarks>
internal sealed class BlameSearch
{
    private readonly ModelFolder _folder;
    private readonly AuditText _text;
    private readonly DecoderNodes _nodes;
    private readonly bool _optimizes;
    private readonly IProgress<AuditProgress>? _progress;
    private readonly Func<bool> _isOver;
    private readonly CancellationToken _cancellation;

    private BlameSearch(
        ModelFolder folder, AuditText text, DecoderNodes nodes, bool optimizes, IProgress<AuditProgress>? progress, Func<bool> isOver, CancellationToken cancellation)
    {
        _folder = folder;
        _text = text;
        _nodes = nodes;
        _optimizes = optimizes;
        _progress = progress;
        _isOver = isOver;
        _cancellation = cancellation;
    }

    /// <summary>Examines the failing batch of each axis.</summary>
    /// <param name="models">The model; what is open beside its base is closed.</param>
    /// <param name="text">The text.</param>
    /// <param name="axes">The axes, each with a failing batch.</param>
    /// <param name="progress">Told before each part of the graph.</param>
    /// <param name="cancellation">Stops between two parts.</param>
    /// <returns>What was found, in the order of the axes. What was measured stands, whatever the provider makes of single nodes.</returns>
    public static IReadOnlyList<BlameResult> Run(
        DecoderPool models, AuditText text, IReadOnlyList<AuditAxisResult> axes, IProgress<AuditProgress>? progress, CancellationToken cancellation)
    {
        if (axes.Count == 0)
        {
            return [];
        }

        models.ReleaseOther();
        long start = Stopwatch.GetTimestamp();
        var nodes = new DecoderNodes(models.Base.Folder);
        List<BlameCase> open = [.. axes.Select(axis => new BlameCase(text, axis, models))];
        var done = new Dictionary<BlameCase, BlameResult>();
        foreach (bool optimizes in (bool[])[false, true])
        {
            var search = new BlameSearch(models.Base.Folder, text, nodes, optimizes, progress, () => Stopwatch.GetElapsedTime(start) > text.Options.BlameTime, cancellation);
            try
            {
                foreach (BlameCase found in open.Count == 0 ? [] : search.Run(open))
                {
                    done[found] = found.Result(optimizes);
                }
            }
            catch (Exception exception) when (exception is OnnxRuntimeException or VerificationException)
            {
                foreach (BlameCase failed in open)
                {
                    done.TryAdd(failed, failed.Nothing(optimizes, $"Nodes could not be examined: {DecoderModel.OneLine(exception)}"));
                }
            }

            open.RemoveAll(done.ContainsKey);
        }

        foreach (BlameCase left in open)
        {
            done[left] = left.Nothing(true, "The difference did not come back when the batch was run again with values inside the graph exposed, so no node can be named.");
        }

        return [.. axes.Select(axis => done.Single(item => item.Key.Axis == axis).Value)];
    }

    // The cases whose difference came back.
    private List<BlameCase> Run(IReadOnlyList<BlameCase> cases)
    {
        List<BlameCase> failing = FindFailing(cases);
        if (failing.Count == 0)
        {
            return [];
        }

        IReadOnlyDictionary<string, ValueProbe> probes = ValueProbe.All(_folder, Changed(failing[0].Options), _nodes);
        List<List<DecoderNode>> slices = Slices(probes, failing);
        for (int i = 0; i < slices.Count && failing.Count > 0; i++)
        {
            _cancellation.ThrowIfCancellationRequested();
            _progress?.Report(new AuditProgress("blame", i, slices.Count));
            if (_isOver())
            {
                failing.ForEach(one => one.StopBefore(slices[i][0], _text.Options.BlameTime));
                break;
            }

            Examine(slices[i], probes, failing);

            // With optimisations on, what is exposed may have changed what is looked for.
            failing.RemoveAll(one => one.IsPerturbed && _optimizes);
        }

        _progress?.Report(new AuditProgress("blame", slices.Count, slices.Count));
        return failing;
    }

    private DecoderModelOptions Changed(DecoderModelOptions options) => options with { OptimizesGraph = _optimizes, Strict = false, EnableCudaGraph = false };

    private List<BlameCase> FindFailing(IReadOnlyList<BlameCase> cases)
    {
        foreach (IGrouping<DecoderModelOptions, BlameCase> group in cases.GroupBy(one => Changed(one.BaselineOptions)))
        {
            using DecoderModel model = DecoderModel.Open(_folder, group.Key);
            var traces = new Dictionary<BatchPlan, Trace>(ReferenceEqualityComparer.Instance);
            foreach (BlameCase one in group)
            {
                one.BaselineLogits = Cached(traces, one.Baseline, () => one.TraceBaseline(model));
            }
        }

        foreach (IGrouping<DecoderModelOptions, BlameCase> group in cases.GroupBy(one => Changed(one.Options)))
        {
            using DecoderModel model = DecoderModel.Open(_folder, group.Key);
            foreach (BlameCase one in group)
            {
                one.FindFailing(model);
            }
        }

        return [.. cases.Where(one => one.IsFailing)];
    }

    private List<List<DecoderNode>> Slices(IReadOnlyDictionary<string, ValueProbe> probes, IReadOnlyList<BlameCase> cases)
    {
        long tokens = cases.Sum(one => one.TokensHeld);
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

    private void Examine(List<DecoderNode> slice, IReadOnlyDictionary<string, ValueProbe> probes, IReadOnlyList<BlameCase> cases)
    {
        HashSet<string> shown = [.. slice.SelectMany(node => node.Outputs).Concat(_nodes.Inner(slice)).Where(name => probes.ContainsKey(name))];
        Dictionary<string, ValueLayout> layouts = probes.Where(item => item.Value.Layout is not null).ToDictionary(item => item.Key, item => item.Value.Layout!);
        var baselines = new Dictionary<BlameCase, Trace>();
        var batches = new Dictionary<BlameCase, Trace>();
        DecoderShape? shape = null;
        foreach (DecoderModelOptions options in cases.SelectMany(one => new[] { one.BaselineOptions, one.Options }).Select(Changed).Distinct())
        {
            using DecoderModel model = ValueProbe.Open(_folder, options, _nodes, shown);
            shape = model.Shape;
            var traces = new Dictionary<BatchPlan, Trace>(ReferenceEqualityComparer.Instance);
            foreach (BlameCase one in cases)
            {
                if (Changed(one.BaselineOptions) == options)
                {
                    baselines[one] = Cached(traces, one.Baseline, () => one.TraceBaseline(model, layouts));
                }

                if (Changed(one.Options) == options)
                {
                    batches[one] = one.TraceBatch(model, layouts);
                }
            }
        }

        foreach (BlameCase one in cases)
        {
            _cancellation.ThrowIfCancellationRequested();
            one.Examine(_folder, Changed(one.Options), _nodes, slice, shape!, baselines[one], batches[one], layouts);
        }
    }

    private static Trace Cached(Dictionary<BatchPlan, Trace> traces, BatchPlan plan, Func<Trace> trace)
    {
        if (!traces.TryGetValue(plan, out Trace? found))
        {
            traces[plan] = found = trace();
        }

        return found;
    }
}
