using System.Globalization;
using System.Text.Json;
using OrtBatchInvariant.Verification.Experiments;

namespace OrtBatchInvariant.Cli.Demo;

/// <summary>The form that `ortbi demo --json` writes. Counts of different answers are per prompt; the worst prompt counts.</summary>
internal static class DemoJson
{
    private sealed record Counts(int Completions, int UniqueLogits, int UniqueCompletions, long LogitsCompared);

    private sealed record Totals(int Completions, int UniqueLogits, int UniqueCompletions, long LogitsCompared, double TokensPerSecond);

    private sealed record Axis(string Name, string Description, Counts Stock, Counts BatchInvariant);

    private sealed record Model(string Name, string Folder, int Prompts, Totals Stock, Totals BatchInvariant, IReadOnlyList<Axis> Axes);

    public static string Write(DemoResult result) => JsonSerializer.Serialize(
        new
        {
            result.Passed,
            result.RequiredCompletions,
            Date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
            result.Threads,
            result.Seed,
            Seconds = Math.Round(result.Elapsed.TotalSeconds, 1),
            InstructionSet = BatchInvariantProvider.InstructionSet.ToString().ToLowerInvariant(),
            Stock = Overall(result, model => model.Stock),
            BatchInvariant = Overall(result, model => model.BatchInvariant),
            Models = result.Models.Select(ModelOf),
        },
        JsonFormat.Options);

    private static Model ModelOf(DemoModelResult model) => new(
        model.Model.Title,
        model.Model.Folder.Path,
        model.Stock.PromptCount,
        TotalsOf([model.Stock]),
        TotalsOf([model.BatchInvariant]),
        [
            .. model.Stock.Axes.Zip(model.BatchInvariant.Axes, (stock, batchInvariant) => new Axis(
                stock.Name, stock.Description, CountsOf(stock), CountsOf(batchInvariant))),
        ]);

    private static Totals Overall(DemoResult result, Func<DemoModelResult, ExperimentResult> kernels) =>
        TotalsOf([.. result.Models.Select(kernels)]);

    private static Counts CountsOf(AxisResult axis) =>
        new(axis.Completions, axis.UniqueLogits, axis.UniqueCompletions, axis.LogitsCompared);

    private static Totals TotalsOf(IReadOnlyList<ExperimentResult> results) => new(
        results.Sum(result => result.All.Completions),
        results.Max(result => result.All.UniqueLogits),
        results.Max(result => result.All.UniqueCompletions),
        results.Sum(result => result.All.LogitsCompared),
        Math.Round(results.Sum(result => result.GeneratedTokens) / results.Sum(result => result.Generation.TotalSeconds), 1));
}
