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
        BlameResult? blame = null;
        AuditAxisResult? worst = results.Where(axis => axis.Failing is not null).MaxBy(axis => axis.MaxLogitDifference);
        if (isComplete && options.FindsBlame && worst is not null)
        {
            try
            {
                blame = Blame.BlameSearch.Run(models, audit._text, worst, progress, cancellation);
            }
            catch (OperationCanceledException)
            {
                isComplete = false;
            }
            catch (Exception exception) when (exception is OnnxRuntimeException or VerificationException)
            {
                // What was measured stands, whatever the provider makes of single nodes.
                blame = new BlameResult(
                    worst.Name, worst.Failing!.Description, null, [], [], false, 0, $"Nodes could not be examined: {DecoderModel.OneLine(exception)}");
            }
        }

        return new AuditResult(
            SubjectReader.Read(models.Base), results, audit._text.PromptLength, options.NewTokens, options.Seed,
            Math.Round(Stopwatch.GetElapsedTime(start).TotalSeconds, 1), isComplete)
        {
            Blame = blame,
        };
    }

    /// <inheritdoc/>
    public void Dispose() => _models.Dispose();

    // False if it was stopped; the axis that was under way is in the results as far as it came.
    private bool RunAxes(List<AuditAxisResult> results, Action<AuditAxisResult>? axisDone)
    {
        var plans = _text.Options.Axes
            .Select(axis => (Axis: axis, Refusal: axis.Refusal(_text)))
            .Select(item => (item.Axis, item.Refusal, Plans: item.Refusal is null ? item.Axis.Plans(_text).ToList() : []))
            .ToList();
        _total = plans.Sum(item => item.Plans.Count);
        foreach ((AuditAxis axis, string? refusal, List<BatchPlan> batches) in plans)
        {
            var counter = new AxisCounter(_reference);
            try
            {
                switch (axis.Mode)
                {
                    case AxisMode.AtOnce when batches.Count > 0:
                        RunAtOnce(axis, batches, [.. batches.Select(_ => _models.Base)], counter);
                        break;
                    case AxisMode.Sessions when batches.Count > 0:
                        RunInSessions(axis, batches, counter);
                        break;
                    case AxisMode.FreshProcess:
                        RunInTurn(axis, batches, counter, (_, comparison) => FreshRun.Compare(_text, comparison));
                        break;
                    default:
                        RunInTurn(axis, batches, counter, (plan, comparison) => Run(plan, _models.For(plan), comparison));
                        break;
                }
            }
            catch (OperationCanceledException)
            {
                results.Add(counter.Result(axis, _text, "stopped"));
                return false;
            }

            results.Add(counter.Result(axis, _text, refusal));
            axisDone?.Invoke(results[^1]);
        }

        _progress?.Report(new AuditProgress("", _total, _total));
        return true;
    }

    // Of what ONNX Runtime says of a node that failed, the part that is about the node; otherwise all but the file's folder.
    private string Short(string message) => FailedNode().Match(message) is { Success: true } node
        ? $"'{node.Groups[2].Value}' ({node.Groups[1].Value}): {node.Groups[3].Value}"
        : message.Replace(_models.Base.Folder.DecoderFile, _models.Base.Folder.Name, StringComparison.Ordinal);

    [GeneratedRegex(@"running (\S+) node\. Name:'([^']*)' Status Message: (.*?)[.)\s]*$")]
    private static partial Regex FailedNode();

    private void RunInTurn(AuditAxis axis, List<BatchPlan> batches, AxisCounter counter, Func<BatchPlan, LogitsComparison, int?> run)
    {
        foreach (BatchPlan plan in batches)
        {
            Step(axis);
            try
            {
                counter.Count(plan, run(plan, counter.Comparison));
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
        int?[] different = new int?[batches.Count];
        Exception?[] errors = new Exception?[batches.Count];
        Thread[] threads =
        [
            .. batches.Select((plan, i) => new Thread(() =>
            {
                try
                {
                    for (int run = 0; run < runs && !_cancellation.IsCancellationRequested; run++)
                    {
                        different[i] = Run(plan, models[i], comparisons[i]) ?? different[i];
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
            counter.Count(batches[i], different[i], runs);
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

    // The first position that differs.
    private int? Run(BatchPlan plan, DecoderModel model, LogitsComparison comparison)
    {
        using var batch = new DecoderBatch(model, plan.Rows, _text.Capacity(plan), model.PoisonsBuffers);
        LogitsComparison.RowComparison?[] rows = [.. Enumerable.Range(0, plan.Rows).Select(row => plan.HoldsText(row) ? comparison.Row(plan.Rows) : null)];
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

            position += count;
        }

        foreach (LogitsComparison.RowComparison? row in rows)
        {
            row?.Finish();
        }

        return rows.Min(row => row?.FirstDifferent);
    }

    /// <summary>What one axis comes to while it runs.</summary>
    private sealed class AxisCounter(LogitsReference reference)
    {
        private int _runs;
        private int _refused;
        private string? _refusal;
        private BatchPlan? _failing;

        public LogitsComparison Comparison { get; } = new(reference);

        public void Count(BatchPlan plan, int? firstDifferent, int runs = 1)
        {
            _runs += runs;
            if (firstDifferent is not null && (_failing is null || plan.Rows < _failing.Rows))
            {
                _failing = plan;
            }
        }

        public void Refused(string reason)
        {
            _refused++;
            _refusal ??= reason;
        }

        public AuditAxisResult Result(AuditAxis axis, AuditText text, string? notRun)
        {
            notRun ??= _refusal is null ? null : $"{_refused} of {_refused + _runs} batches were refused: {_refusal}";
            return AuditAxisResult.From(axis, text, _runs, Comparison, _failing, notRun);
        }
    }
}
