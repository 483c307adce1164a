using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Files;

namespace OrtBatchInvariant.Gpu.Records;

/// <summary>What a command found: a line on the console for each check, and the same as JSON.</summary>
internal sealed class CheckReport
{
    private readonly string _subject;
    private readonly string? _jsonFile;
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly List<Check> _checks = [];

    public CheckReport(string subject, string? jsonFile)
    {
        _subject = subject;
        _jsonFile = jsonFile;
        if (jsonFile is not null)
        {
            AtomicText.CheckTarget(jsonFile);
        }
    }

    public void Add(string name, bool passed, string detail) => Add(new Check(name, passed, detail));

    /// <summary>Two lists of numbers of a number of bytes each, all of which must be equal.</summary>
    public void AddComparison(string name, string model, IReadOnlyList<byte[]> expected, IReadOnlyList<byte[]> actual, int elementBytes, string detail = "", string what = "logits")
    {
        long compared = 0, different = 0;
        foreach ((byte[] a, byte[] b) in expected.Zip(actual))
        {
            compared += a.Length / elementBytes;
            for (int i = 0; i < a.Length; i += elementBytes)
            {
                different += a.AsSpan(i, elementBytes).SequenceEqual(b.AsSpan(i, elementBytes)) ? 0 : 1;
            }
        }

        Add(new Check(name, different == 0 && compared > 0 && expected.Count == actual.Count, $"{Number(different)} of {Number(compared)} {what} differ{detail}")
        {
            Model = model, ElementsCompared = compared, ElementsDifferent = different,
        });
    }

    public void AddAxis(string model, string kernels, AuditAxisResult axis, bool mustHold)
    {
        string outcome = axis.NotRun is null ? "" : $"; {axis.NotRun}";
        Add(new Check(
            $"{model}, {kernels}: {axis.Name}", axis.IsInvariant || !mustHold,
            $"{Number(axis.ElementsDifferent)} of {Number(axis.ElementsCompared)} logits differ in {axis.Runs} batches ({axis.Values}), {Number(axis.BaselineDifferent)} from: {axis.Baseline}{outcome}")
        {
            Model = model, Kernels = kernels, Axis = axis.Name, ElementsCompared = axis.ElementsCompared, ElementsDifferent = axis.ElementsDifferent,
        });
    }

    public void AddCompletions(string model, string kernels, ServingResult result, bool mustHold)
    {
        foreach (DecodingResult decoding in result.Decodings)
        {
            bool holds = result.IsComplete && decoding is { DistinctLogits: 1, DistinctTexts: 1 };
            Add(new Check(
                $"{model}, {kernels}: completions, {decoding.Decoding}", holds || !mustHold,
                $"{Number(decoding.Completions)} completions, up to {result.LargestBatch} together: {decoding.DistinctLogits} different logits{From(decoding.FirstDifferentLogits)}, "
                + $"{decoding.DistinctTexts} different texts{From(decoding.FirstDifferentToken)}, {Number(Compared(result, decoding))} logits compared, {Number((long)result.TokensPerSecond)} tokens/s, {result.Shapes} shapes"
                + (result.IsComplete ? "" : $"; stopped after {result.Seconds:F0} s"))
            {
                Model = model, Kernels = kernels, Axis = "completions", ElementsCompared = Compared(result, decoding),
                Completions = decoding.Completions, UniqueLogits = decoding.DistinctLogits, UniqueCompletions = decoding.DistinctTexts,
            });
        }
    }

    /// <summary>Completes the JSON and writes the last line.</summary>
    /// <returns>The exit code.</returns>
    public int Finish()
    {
        int failed = _checks.Count(check => !check.Passed);
        Write(isComplete: true);
        Console.WriteLine(
            $"{_subject}: {_checks.Count - failed} passed, {failed} failed, {Number(_checks.Sum(check => check.ElementsCompared ?? 0))} elements compared, {_clock.Elapsed.TotalSeconds:F1} s");
        return failed == 0 && _checks.Count > 0 ? 0 : 1;
    }

    private static string From(int? token) => token is { } index ? $" from token {index + 1}" : "";

    private static long Compared(ServingResult result, DecodingResult decoding) => result.LogitsCompared * decoding.Completions / result.Decodings.Sum(each => each.Completions);

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);

    // After every check, so that a program that is stopped or dies leaves what it found, and that it did not finish.
    private void Write(bool isComplete)
    {
        if (_jsonFile is not null)
        {
            var record = new CheckRecord(
                _subject, isComplete, Environment.GetEnvironmentVariable("ORTBI_COMMIT") ?? "", OrtEnv.Instance().GetVersionString(),
                Math.Round(_clock.Elapsed.TotalSeconds, 1), _checks);
            AtomicText.Write(_jsonFile, JsonSerializer.Serialize(record, RecordContext.Default.CheckRecord) + "\n");
        }
    }

    private void Add(Check check)
    {
        _checks.Add(check);
        Write(isComplete: false);
        Console.WriteLine($"{(check.Passed ? "ok    " : "FAILED")} {check.Name}: {check.Detail}");
    }
}
