using System.Globalization;
using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Audit.Reports;
using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Experiments;
using OrtBatchInvariant.Verification.Files;
using OrtBatchInvariant.Verification.Hosting;
using Spectre.Console;

namespace OrtBatchInvariant.Cli.Verify;

/// <summary>Does what `ortbi verify` was asked for.</summary>
internal sealed class VerifyRun
{
    private const int RandomPromptTokens = 24;
    private const string UsualPrompt = "We must not forget that peace among nations depends upon";

    private readonly VerifyRequest _request;
    private readonly ModelFolder _folder;
    private readonly CancellationToken _cancellation;
    private int[]? _prompt;

    private VerifyRun(VerifyRequest request, ModelFolder folder, CancellationToken cancellation)
    {
        _request = request;
        _folder = folder;
        _cancellation = cancellation;
    }

    public static int Run(VerifyRequest request, CancellationToken cancellation)
    {
        foreach (string file in ((string?[])[request.RecordFile, request.JsonFile, request.JUnitFile, request.HtmlFile]).OfType<string>())
        {
            AtomicText.CheckTarget(file);
        }

        ModelFolder folder = ModelFolder.OpenDecoder(request.Model);
        OnnxRuntimeLibrary.LoadFirst();
        using OgaHandle? genAI = request.InGenAIEngine || request.Prompt is not null || request.Completions is not null ? new() : null;
        var run = new VerifyRun(request, folder, cancellation);
        return request switch
        {
            { Fresh: { } fresh } => run.Answer(fresh),
            { RecordFile: { } file } => run.Record(file),
            { CheckFile: { } file } => run.Check(file),
            _ => run.Verify(),
        };
    }

    private int Verify()
    {
        var audits = new List<AuditResult>();
        IReadOnlyList<ServingResult> completions = [];
        int[]? prompt = _request.Prompt is { } text ? PromptReader.Encode(_folder, text) : null;
        bool serves = _request.Completions is not null;
        foreach (string provider in _request.Providers.TakeWhile(_ => !_cancellation.IsCancellationRequested))
        {
            if (serves)
            {
                completions = [.. completions, Terminal.WithProgress(addBar => Serve(provider, prompt, addBar(provider)))];
            }

            if ((!serves || _request.Axes is not null) && !_cancellation.IsCancellationRequested)
            {
                audits.Add(Terminal.WithProgress(addBar => Audit(provider, prompt, addBar(provider))));
                AuditReport.Print(audits[^1], Terminal.Out);
            }
        }

        if (serves)
        {
            // A tokenizer costs loading the model once more.
            bool severalTexts = completions.Any(result => result.Decodings.Any(decoding => decoding.DistinctTexts > 1));
            completions = severalTexts && _folder.HasTokenizer ? PromptReader.Decode(_folder, completions) : completions;
            CompletionsReport.Print(completions, Terminal.Out);
        }

        var report = new VerificationReport(
            DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture), CommandText(), audits, completions)
        {
            IsComplete = !_cancellation.IsCancellationRequested && audits.All(audit => audit.IsComplete) && completions.All(result => result.IsComplete),
        };
        Write(report);
        if (!report.IsComplete)
        {
            throw new OperationCanceledException();
        }

        return report.IsInvariant ? ExitCode.Success : ExitCode.Varies;
    }

    private AuditResult Audit(string provider, int[]? prompt, IProgressBar bar)
    {
        AuditOptions defaults = new();
        var options = defaults with
        {
            Axes = _request.Axes is null ? defaults.Axes : AuditAxis.Parse(_request.Axes),
            Prompt = prompt,
            PromptTokens = _request.PromptTokens,
            NewTokens = _request.Tokens ?? defaults.NewTokens,
            MaxRows = _request.MaxRows ?? defaults.MaxRows,
            IsQuick = _request.IsQuick,
            Seed = _request.Seed,
            FreshProcess = FreshRun.ThisProgram(
                ["verify", _request.Model, "--provider", provider, "--device", _request.IsOnGpu ? "cuda" : "cpu", "--fresh"]),
        };
        return InvarianceAudit.Run(
            _folder, _request.Decoder(provider), options,
            new DirectProgress<AuditProgress>(step => bar.Set(step.Done, step.Total, $"{provider}: {step.Axis}")), cancellation: _cancellation);
    }

    private ServingResult Serve(string provider, int[]? prompt, IProgressBar bar)
    {
        if (_request.InGenAIEngine && _folder.Config is null)
        {
            throw new VerificationException($"{_folder.DecoderFile}: a bare decoder cannot run in GenAI's Engine; name a model folder with a genai_config.json.");
        }

        var options = new ServingOptions
        {
            Prompt = prompt ?? [],
            Completions = _request.Completions!.Value,
            Arrivals = _request.Arrivals,
            PadsToBuckets = _request.PadsToBuckets,
            Seed = _request.Seed,
        };
        options = options with { NewTokens = _request.Tokens ?? options.NewTokens, MaxRows = _request.MaxRows ?? options.MaxRows };
        var progress = new DirectProgress<(int Done, int Total)>(step => bar.Set(step.Done, step.Total, $"{provider}: {step.Done} completions"));
        if (!_request.InGenAIEngine || (_prompt ?? prompt) is null)
        {
            using DecoderModel model = DecoderModel.Open(_folder, _request.Decoder(provider));
            _prompt ??= prompt ?? ServingPrompt(model, options, provider, bar);
            if (!_request.InGenAIEngine)
            {
                return ServingExperiment.Run(model, options with { Prompt = _prompt }, progress, _cancellation);
            }
        }

        using HostedModel hosted = HostedModel.Load(_folder, new HostOptions { Kernels = VerifyRequest.Kernels(provider), Threads = _request.Threads });
        return EngineExperiment.Run(hosted, options with { Prompt = _prompt ?? prompt! }, progress, _cancellation);
    }

    // The same for all providers.
    private int[] ServingPrompt(DecoderModel model, ServingOptions options, string provider, IProgressBar bar) => _request.ChoosePrompt is { } count
        ? PromptChoice.Choose(
            model, options, PromptChoice.Write(model, count, _request.PromptTokens, _request.Seed),
            new DirectProgress<(int Done, int Total)>(step => bar.Set(step.Done, step.Total, $"{provider}: {step.Done} prompts tried")), _cancellation)
        : _folder.HasTokenizer ? PromptReader.Encode(_folder, UsualPrompt)
        : PromptReader.Draw(model, RandomPromptTokens, _request.Seed);

    private int Record(string file)
    {
        using DecoderModel model = DecoderModel.Open(_folder, _request.Decoder(_request.Providers[0]));
        AuditOptions defaults = new();
        LogitsDigests digests = LogitsDigests.Record(model, defaults with
        {
            Prompt = _request.Prompt is { } text ? PromptReader.Encode(_folder, text) : null,
            PromptTokens = _request.PromptTokens,
            NewTokens = _request.Tokens ?? defaults.NewTokens,
            Seed = _request.Seed,
        });
        digests.Write(file);
        Terminal.Out.MarkupLineInterpolated(CultureInfo.InvariantCulture, $"{file}: digests of the logits of {digests.Positions.Count} positions.");
        return ExitCode.Success;
    }

    private int Check(string file)
    {
        LogitsDigests digests = LogitsDigests.Read(file);
        using DecoderModel model = DecoderModel.Open(_folder, _request.Decoder(_request.Providers[0]));
        DigestCheck check = digests.Check(model);
        Terminal.Out.MarkupInterpolated(check.Holds ? (FormattableString)$"[green bold]HOLDS[/] " : $"[red bold]DRIFTED[/] ");
        Terminal.Out.MarkupLineInterpolated($"{check}");
        return check.Holds ? ExitCode.Success : ExitCode.Varies;
    }

    private int Answer((string Request, string Logits) fresh)
    {
        using DecoderModel model = DecoderModel.Open(_folder, _request.Decoder(_request.Providers[0]));
        FreshRun.Answer(model, fresh.Request, fresh.Logits);
        return ExitCode.Success;
    }

    private void Write(VerificationReport report)
    {
        if (_request.JsonFile is { } json)
        {
            AtomicText.Write(json, report.ToJson());
        }

        if (_request.JUnitFile is { } junit)
        {
            AtomicText.Write(junit, JUnitReport.Write(report));
        }

        if (_request.HtmlFile is { } html)
        {
            AtomicText.Write(html, HtmlReport.Write(report));
        }
    }

    // Folders of this machine say nothing to others.
    private static string CommandText() => $"ortbi {string.Join(' ', Environment.GetCommandLineArgs().Skip(1).Select(Path.GetFileName))}";
}
