using OrtBatchInvariant.Cli.Demo;
using OrtBatchInvariant.Cli.Tests.Support;
using OrtBatchInvariant.Verification.Experiments;
using OrtBatchInvariant.Verification.Hosting;
using Spectre.Console;

namespace OrtBatchInvariant.Cli.Tests;

/// <summary>The demo fails when it should.</summary>
[Collection(nameof(Support.Models))]
public sealed class DemoVerdictTests(Support.Models models)
{
    [Theory]
    [InlineData(1, 1000, true, "PASSED")]
    [InlineData(2, 1000, false, "up to 2 different logits")]
    [InlineData(1, 999, false, "Only 999 completions")]
    public void Verdict(int uniqueLogits, int completions, bool passed, string part)
    {
        var demo = new DemoModelResult(
            new DemoModel("model", ModelFolder.Open(models.Random)),
            Result(KernelSet.Stock, uniqueLogits: 3, completions),
            Result(KernelSet.BatchInvariant, uniqueLogits, completions));
        var result = new DemoResult([demo], RequiredCompletions: 1000, Threads: 1, Seed: 1, TimeSpan.FromSeconds(1));
        Assert.Equal(passed, result.Passed);

        using var writer = new StringWriter();
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer), Ansi = AnsiSupport.No });
        console.Profile.Width = 200;
        DemoReport.Print(result, console);
        Assert.Contains(part, writer.ToString(), StringComparison.Ordinal);
        Assert.Equal(passed, writer.ToString().Contains("PASSED", StringComparison.Ordinal));
    }

    private static ExperimentResult Result(KernelSet kernels, int uniqueLogits, int completions)
    {
        AxisResult[] axes = [new("batch size", "batch size", completions, uniqueLogits, 1, 1000)];
        return new ExperimentResult(kernels, axes, axes[0] with { Name = "all" }, 1000, TimeSpan.FromSeconds(1), 1, null);
    }
}
