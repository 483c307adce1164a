using System.Diagnostics;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Experiments;

/// <summary>
/// Completes one prompt over and over at temperature 0 in GenAI's Engine, among random neighbours of any length, and counts different
/// texts: what <see cref="ServingExperiment"/> does, in the batches that GenAI makes.
/// </summary>
/// <remarks>
/// The Engine (0.15.2) hands out tokens and no logits, so that logits cannot be counted, nor can tokens be sampled here by one rule for
/// every completion. Requests cannot be put back into its queue.
/// </remarks>
public sealed class EngineExperiment : IDisposable
{
    private readonly GenAIEngine _engine;
    private readonly ServingOptions _options;
    private readonly RequestSource _source;
    private readonly Greedy _greedy = new();
    private readonly DecodingTally _tally;
    private readonly List<(Request Request, int Token)> _run = [];
    private TimeSpan _modelTime;
    private int _requests;
    private int _largest;
    private long _generated;

    private EngineExperiment(HostedModel model, ServingOptions options)
    {
        // The Engine's steps give a token to one request each.
        _options = options with { MaxRows = Math.Min(options.MaxRows, GenAIEngine.MaxRows), PadsToBuckets = false };
        _source = new RequestSource(model.Folder.VocabularySize, _options, [_greedy], rowsPerStep: 1);
        _tally = new DecodingTally(_greedy.Name, options.Completions);
        ServingBatch.CheckContext(model.Folder, model.Folder.ContextLength, _source.Capacity);
        _engine = new GenAIEngine(model);
    }

    /// <summary>Runs the experiment. The process needs an <see cref="Microsoft.ML.OnnxRuntimeGenAI.OgaHandle"/>.</summary>
    /// <param name="model">The model.</param>
    /// <param name="options">What to run; no more rows than the Engine has, and never in buckets.</param>
    /// <param name="progress">Told the number of completions as it grows, and their number in all.</param>
    /// <param name="cancellation">Stops between two steps; the result then holds what there is, and says so.</param>
    /// <exception cref="VerificationException">GenAI's Engine cannot run the model.</exception>
    public static ServingResult Run(
        HostedModel model, ServingOptions options, IProgress<(int Done, int Total)>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        options.Check();
        long start = Stopwatch.GetTimestamp();
        using var experiment = new EngineExperiment(model, options);
        experiment.Serve(progress, cancellation);
        return experiment.Result(model, Stopwatch.GetElapsedTime(start));
    }

    /// <inheritdoc/>
    public void Dispose() => _engine.Dispose();

    private void Serve(IProgress<(int Done, int Total)>? progress, CancellationToken cancellation)
    {
        // What everything is compared with: the prompt alone.
        Submit(_source.Probe(_greedy));
        while (_engine.Pending > 0)
        {
            Step();
        }

        while (!_tally.IsFull && !cancellation.IsCancellationRequested)
        {
            foreach (Request request in _source.Next(_engine.Pending))
            {
                Submit(request);
            }

            if (_engine.Pending > 0)
            {
                Step();
            }

            progress?.Report((_tally.Completions, _options.Completions));
        }
    }

    private void Submit(Request request)
    {
        _engine.Submit(request.Text, request.NewTokens, request);
        _requests++;
    }

    private void Step()
    {
        long start = Stopwatch.GetTimestamp();
        (object State, int Token)? step = _engine.Step();
        _modelTime += Stopwatch.GetElapsedTime(start);
        if (step is not (Request request, var token))
        {
            return;
        }

        // All requests of a run have equally many tokens, since they started together; so have those of the next, where one token is all they get.
        if (_run.Count == GenAIEngine.MaxRows || _run.Any(other => other.Request == request || other.Request.Tokens.Count != request.Tokens.Count))
        {
            EndRun();
        }

        _run.Add((request, token));
        if (_engine.Pending == 0)
        {
            EndRun();
        }
    }

    private void EndRun()
    {
        foreach ((Request request, int token) in _run)
        {
            request.Take(token, _run.Count);
            if (request is { IsProbe: true, IsDone: true })
            {
                _tally.Add(request);
            }
        }

        _largest = Math.Max(_largest, _run.Count);
        _generated += _run.Count;
        _run.Clear();
    }

    private ServingResult Result(HostedModel model, TimeSpan elapsed)
    {
        bool isOurs = model.Options.Kernels == KernelSet.BatchInvariant;
        return new ServingResult(
            SubjectReader.Read(model.Folder, isOurs ? "batch-invariant" : "cpu", Processor.Name, isOurs ? model.CoverageReport : null),
            [_tally.Result()],
            _options.Prompt.Count,
            _options.NewTokens,
            _requests,
            Preemptions: 0,
            _largest,
            LogitsCompared: 0,
            _generated,
            TimedTokens: _generated,
            Math.Round(_modelTime.TotalSeconds, 2),
            Math.Round(elapsed.TotalSeconds, 1),
            Shapes: 0,
            PadsToBuckets: false,
            _options.Arrivals.ToString().ToLowerInvariant(),
            _options.Seed,
            _tally.IsFull)
        {
            Engine = "GenAI's Engine",
        };
    }
}
