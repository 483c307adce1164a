using System.Diagnostics;
using System.Text.RegularExpressions;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>
/// Runs one text in every way that must not matter and compares the bytes of the logits of each of its positions with those of the
/// text alone in its batch. Needs nothing but ONNX Runtime: any decoder in the GenAI layout, with any provider.
/// </summary>
public sealed partial class InvarianceAudit : IDisposable
{
    private readonly DecoderPool _models;
    private readonly AuditText _text;
    private readonly LogitsReference _reference;
    private readonly IProgress<AuditProgress>? _progress;
    private readonly CancellationToken _cancellation;
    private int _done;
    private int _total;

    private InvarianceAudit(
        DecoderPool models, AuditOptions options, IProgress<AuditProgress>? progress, CancellationToken cancellation)
    {
        _models = models;
        _progress = progress;
        _cancellation = cancellation;
        _text = new AuditText(models.Base, options);
        _reference = LogitsReference.Record(models.Base, _text);
    }

    /// <summary>Runs an audit.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="decoder">Where and with whose kernels it runs.</param>
    /// <param name="options">What to run.</param>
    /// <param name="progress">Told before each batch.</param>
    /// <param name="axisDone">Told each axis's result as it comes.</param>
    /// <param name="cancellation">Stops between two batches; the result then holds what there is, and says so.</param>
    /// <exception cref="VerificationException">The model cannot be loaded or run.</exception>
    public static AuditResult Run(
        ModelFolder folder,
        DecoderModelOptions decoder,
        AuditOptions options,
        IProgress<AuditProgress>? progress = null,
        Action<AuditAxisResult>? axisDone = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        long start = Stopwatch.GetTimestamp();
        using var models = new DecoderPool(folder, decoder);
        using var audit = new InvarianceAudit(models, options, progress, cancellation);
        var results = new List<AuditAxisResult>();
        bool isComplete = audit.RunAxes(results, axisDone);
        IReadOnlyList<BlameResult> blames = [];
        if (isComplete && options.FindsBlame)
        {
            try
            {
                blames = Blame.BlameSearch.Run(models, audit._text, ToBlame(results), progress, cancellation);
            }
            catch (OperationCanceledException)
            {
                isComplete = false;
            }
        }

        return new AuditResult(
            SubjectReader.Read(models.Base), results, audit._text.PromptLength, options.NewTokens, options.Seed,
            Math.Round(Stopwatch.GetElapsedTime(start).TotalSeconds, 1), isComplete)
        {
            Blames = blames,
        };
    }

    /// <inheritdoc/>
    public void Dispose() => _models.Dispose();

    // Where only the number of rows makes a difference, the axis of batch sizes has the nodes.
    private static IReadOnlyList<AuditAxisResult> ToBlame(IReadOnlyList<AuditAxisResult> results)
    {
        bool sizesVary = results.Any(axis => axis is { Id: "batch-size", Varies: true });
        return [.. results.Where(axis => axis.Failing is not null && (axis.BaselineDifferent > 0 || !sizesVary))];
    }

    // False if it was stopped; the axis that was under way is in the results as far as it came.
    private bool RunAxes(List<AuditAxisResult> results, Action<AuditAxisResult>? axisDone)
    {
        var plans = _text.Options.Axes
            .Select(axis => (Axis: axis, Refusal: axis.Refusal(_text)))
            .Select(item => (item.Axis, item.Refusal, Plans: item.Refusal is null ? item.Axis.Plans(_text).ToList() : []))
            .ToList();
        _total = plans.Sum(item => WithBaselines(item.Plans).Count);
        foreach ((AuditAxis axis, string? refusal, List<BatchPlan> batches) in plans)
        {
            var counter = new AxisCounter(_text, _reference, batches);
            try
            {
                RunAxis(axis, batches, counter);
            }
            catch (OperationCanceledException)
            {
                results.Add(counter.Result(axis, "stopped"));
                return false;
            }

            results.Add(counter.Result(axis, refusal));
            axisDone?.Invoke(results[^1]);
        }

        _progress?.Report(new AuditProgress("", _total, _total));
        return true;
    }

    private void RunAxis(AuditAxis axis, List<BatchPlan> batches, AxisCounter counter)
    {
        switch (axis.Mode)
        {
            case AxisMode.AtOnce or AxisMode.Sessions when batches.Count > 0:
                RunInTurn(axis, [.. batches.Select(plan => plan.Baseline).OfType<BatchPlan>()], counter);
                if (axis.Mode == AxisMode.AtOnce)
                {
                    RunAtOnce(axis, batches, [.. batches.Select(_ => _models.Base)], counter);
                }
                else
                {
                    RunInSessions(axis, batches, counter);
                }

                break;
            case AxisMode.FreshProcess:
                foreach (BatchPlan plan in batches)
                {
                    Step(axis);
                    int? different = FreshRun.Compare(_text, counter.Comparison);
                    counter.Count(plan, new Outcome(different, different is not null));
                }

                break;
            default:
                RunInTurn(axis, WithBaselines(batches), counter);
                break;
        }
    }

    // Each batch once, its baseline before it.
    private static List<BatchPlan> WithBaselines(IEnumerable<BatchPlan> plans)
    {
        var seen = new HashSet<object>(ReferenceEqualityComparer.Instance);
        return [.. plans.SelectMany(plan => plan.Baseline is { } baseline ? new[] { baseline, plan } : [plan]).Where(seen.Add)];
    }

    // Of what ONNX Runtime says of a node that failed, the part that is about the node; otherwise all but the file's folder.
    private string Short(string message) => FailedNode().Match(message) is { Success: true } node
        ? $"'{node.Groups[2].Value}' ({node.Groups[1].Value}): {node.Groups[3].Value}"
        : message.Replace(_models.Base.Folder.DecoderFile, _models.Base.Folder.Name, StringComparison.Ordinal);

    [GeneratedRegex(@"running (\S+) node\. Name:'([^']*)' Status Message: (.*?)[.)\s]*$")]
    private static partial Regex FailedNode();

    private void RunInTurn(AuditAxis axis, List<BatchPlan> batches, AxisCounter counter)
    {
        foreach (BatchPlan plan in batches)
        {
            Step(axis);
            try
            {
                counter.Count(plan, Run(plan, _models.For(plan), counter.Comparison, counter));
            }
            catch (VerificationException exception) when (_models.Options.Kernels == KernelSet.Stock)
            {
                // Stock kernels refuse some of this: GroupQueryAttention takes several tokens after a past in batches of one row only.
                counter.Refused(Short(exception.Message));
            }
        }
    }

    // Copies must neither disturb the capture of a graph nor be disturbed by it.
    private void RunInSessions(AuditAxis axis, List<BatchPlan> batches, AxisCounter counter)
    {
        DecoderModel[] models = [.. batches.Select(plan => DecoderModel.Open(_models.Base.Folder, _models.OptionsFor(plan)))];
        try
        {
            var copies = new RepeatedCopies(_models.Base.Memory);
            try
            {
                RunAtOnce(axis, batches, models, counter);
            }
            finally
            {
                copies.Stop();
            }

            if (copies.Count == 0)
            {
                throw new VerificationException("No tensor was copied beside the sessions, so nothing was tested.");
            }
        }
        finally
        {
            foreach (DecoderModel model in models)
            {
                model.Dispose();
            }
        }
    }

    private void RunAtOnce(AuditAxis axis, List<BatchPlan> batches, DecoderModel[] models, AxisCounter counter)
    {
        int runs = _text.Options.IsQuick ? 2 : 6;
        LogitsComparison[] comparisons = [.. batches.Select(_ => new LogitsComparison(_reference))];
        var outcomes = new Outcome[batches.Count];
        Exception?[] errors = new Exception?[batches.Count];
        Thread[] threads =
        [
            .. batches.Select((plan, i) => new Thread(() =>
            {
                try
                {
                    for (int run = 0; run < runs && !_cancellation.IsCancellationRequested; run++)
                    {
                        outcomes[i] = outcomes[i].Or(Run(plan, models[i], comparisons[i], counter));
                    }
                }
                catch (Exception exception)
                {
                    errors[i] = exception;
                }
            })),
        ];
        _cancellation.ThrowIfCancellationRequested();
        foreach (Thread thread in threads)
        {
            thread.Start();
        }

        for (int i = 0; i < threads.Length; i++)
        {
            threads[i].Join();
            counter.Comparison.Add(comparisons[i]);
            counter.Count(batches[i], outcomes[i], runs);
            Step(axis);
        }

        if (errors.OfType<Exception>().FirstOrDefault() is { } error)
        {
            throw new VerificationException($"A run beside others failed ({axis.Name}): {DecoderModel.OneLine(error)}", error);
        }
    }

    private void Step(AuditAxis axis)
    {
        _cancellation.ThrowIfCancellationRequested();
        _progress?.Report(new AuditProgress(axis.Name, _done++, _total));
    }

    private Outcome Run(BatchPlan plan, DecoderModel model, LogitsComparison comparison, AxisCounter counter)
    {
        using var batch = new DecoderBatch(model, plan.Rows, _text.Capacity(plan), model.PoisonsBuffers);
        LogitsReference? baseline = plan.Baseline is not null || counter.IsBaseline(plan) ? counter.BaselineOf(plan) : _reference;
        int first = Enumerable.Range(0, plan.Rows).First(plan.HoldsText);
        byte[][] kept = new byte[counter.IsBaseline(plan) ? _text.Length : 0][];
        LogitsComparison.RowComparison?[] rows = [.. Enumerable.Range(0, plan.Rows).Select(row => plan.HoldsText(row) ? comparison.Row(plan.Rows, baseline) : null)];
        int position = 0;
        foreach ((int count, int[][] tokens) in plan.Runs.Zip(_text.Runs(plan)))
        {
            using BatchLogits logits = plan.FixedSteps && count == 1 ? batch.Step([.. tokens.Select(row => row[0])]) : batch.Append(tokens);
            for (int row = 0; row < plan.Rows; row++)
            {
                for (int i = 0; rows[row] is not null && i < count; i++)
                {
                    rows[row]!.Compare(position + i, logits.Bytes(row, i));
                }
            }

            for (int i = 0; kept.Length > 0 && i < count; i++)
            {
                kept[position + i] = logits.Bytes(first, i).ToArray();
            }

            position += count;
        }

        foreach (LogitsComparison.RowComparison? row in rows)
        {
            row?.Finish();
        }

        if (kept.Length > 0)
        {
            counter.Keep(plan, kept);
        }

        return new Outcome(rows.Min(row => row?.FirstDifferent), rows.Any(row => row is { DiffersFromBaseline: true }));
    }

    /// <summary>What a batch came to.</summary>
    /// <param name="FirstDifferent">The first position whose logits differ from those of the text alone; null if none does.</param>
    /// <param name="DiffersFromBaseline">Whether logits differ from those of its baseline.</param>
    private readonly record struct Outcome(int? FirstDifferent, bool DiffersFromBaseline)
    {
        public Outcome Or(Outcome later) => new(FirstDifferent ?? later.FirstDifferent, DiffersFromBaseline || later.DiffersFromBaseline);
    }

    /// <summary>What one axis comes to while it runs.</summary>
    private sealed class AxisCounter
    {
        private readonly AuditText _text;
        private readonly HashSet<BatchPlan> _isBaseline;
        private readonly Dictionary<BatchPlan, LogitsReference> _baselines = new(ReferenceEqualityComparer.Instance);
        private int _runs;
        private int _refused;
        private string? _refusal;
        private BatchPlan? _failing;
        private bool _failsByItself;

        public AxisCounter(AuditText text, LogitsReference reference, IEnumerable<BatchPlan> batches)
        {
            _text = text;
            _isBaseline = new(batches.Select(plan => plan.Baseline).OfType<BatchPlan>(), ReferenceEqualityComparer.Instance);
            Comparison = new(reference);
        }

        public LogitsComparison Comparison { get; }

        /// <summary>Whether other batches are compared with this one.</summary>
        public bool IsBaseline(BatchPlan plan) => _isBaseline.Contains(plan);

        /// <summary>What a batch is compared with beside the text alone; null if nothing is, or if that was refused.</summary>
        public LogitsReference? BaselineOf(BatchPlan plan) => plan.Baseline is null ? null : _baselines.GetValueOrDefault(plan.Baseline);

        public void Keep(BatchPlan plan, byte[][] logits) => _baselines[plan] = new LogitsReference(Comparison.Reference.Shape, _text, logits);

        public void Count(BatchPlan plan, Outcome outcome, int runs = 1)
        {
            _runs += runs;
            bool isFailing = outcome.FirstDifferent is not null || outcome.DiffersFromBaseline;
            bool byItself = outcome.DiffersFromBaseline;
            if (isFailing && (_failing is null || (byItself && !_failsByItself) || (byItself == _failsByItself && plan.Rows < _failing.Rows)))
            {
                (_failing, _failsByItself) = (plan, byItself);
            }
        }

        public void Refused(string reason)
        {
            _refused++;
            _refusal ??= reason;
        }

        public AuditAxisResult Result(AuditAxis axis, string? notRun)
        {
            notRun ??= _refusal is null ? null : $"{_refused} of {_refused + _runs} batches were refused: {_refusal}";
            return AuditAxisResult.From(axis, _text, _runs, Comparison, _failing, notRun);
        }
    }
}
