using System.CommandLine;
using System.Diagnostics;
using OrtBatchInvariant.Gpu.Models;
using OrtBatchInvariant.Gpu.Records;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Audit.Serving;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Gpu.Commands;

/// <summary>`completions`: one prompt completed a thousand times among random neighbours.</summary>
internal static class CompletionsCommand
{
    // More than one block of 128 keys, and long enough that stock kernels choose by the number of rows.
    private const int PromptTokens = 150;

    private const int QuickCompletions = 20;

    public static Command Create()
    {
        var command = new Command("completions", "Complete one prompt over and over among random neighbours and count different answers.");
        var common = new CommonOptions(command);
        var count = new Option<int>("--count") { Description = "Number of completions.", DefaultValueFactory = _ => 1000 };
        var tokens = new Option<int>("--tokens") { Description = "Tokens of a completion.", DefaultValueFactory = _ => 24 };
        var maxRows = new Option<int>("--max-rows") { Description = "The largest batch.", DefaultValueFactory = _ => 64 };
        var prompts = new Option<int>("--prompts")
        {
            Description = "Texts that the model writes, of which the one is taken whose stock completions differ most; without stock kernels the first.",
            DefaultValueFactory = _ => 20,
        };
        var seconds = new Option<int>("--seconds") { Description = "How long stock kernels may take for one model; the choice of its prompt half of that.", DefaultValueFactory = _ => 30 };
        var arrivals = new Option<Arrivals>("--arrivals") { Description = "How requests come: poisson, or in batches.", DefaultValueFactory = _ => Arrivals.Poisson };
        var buckets = new Option<bool>("--buckets") { Description = "Pad runs to a few shapes; the first run of each is not timed." };
        var profile = new Option<string?>("--profile") { Description = "Write profiles of ONNX Runtime to files whose names start with PREFIX.", HelpName = "PREFIX" };
        foreach (Option option in (Option[])[count, tokens, maxRows, prompts, seconds, arrivals, buckets, profile])
        {
            command.Add(option);
        }

        command.SetAction(parsed =>
        {
            CommonValues values = common.Read(parsed);
            var options = new ServingOptions
            {
                Prompt = [],
                Completions = values.IsQuick ? Math.Min(parsed.GetValue(count), QuickCompletions) : parsed.GetValue(count),
                NewTokens = parsed.GetValue(tokens),
                MaxRows = values.Rows(parsed.GetValue(maxRows)),
                Arrivals = parsed.GetValue(arrivals),
                PadsToBuckets = parsed.GetValue(buckets),
                Seed = Random.Shared.Next(),
            };
            return Run(values, options, parsed.GetValue(prompts), TimeSpan.FromSeconds(parsed.GetValue(seconds)), parsed.GetValue(profile));
        });
        return command;
    }

    private static int Run(CommonValues values, ServingOptions options, int prompts, TimeSpan limit, string? profile)
    {
        var report = new CheckReport("completions", values.JsonFile);
        foreach (TestModel model in values.Models.Where(model => model.IsTrained))
        {
            ModelFolder folder = model.Make(values.ModelsFolder);
            IReadOnlyList<int>? prompt = null;
            foreach (KernelSet kernels in values.Kernels)
            {
                string name = $"{model.Name}, {CommonValues.Name(kernels)}";
                bool isOurs = kernels == KernelSet.BatchInvariant;
                try
                {
                    var progress = new Progress(name);
                    using DecoderModel decoder = DecoderModel.Open(folder, values.Options(kernels) with { ProfilePrefix = profile });
                    progress.Say("loaded");
                    prompt ??= Choose(decoder, options, prompts, limit, progress);
                    using var timeout = new CancellationTokenSource(isOurs ? Timeout.InfiniteTimeSpan : limit);
                    ServingResult result = ServingExperiment.Run(decoder, options with { Prompt = prompt }, progress.Of("completions"), timeout.Token);
                    report.AddCompletions(model.Name, CommonValues.Name(kernels), result, mustHold: isOurs);
                }
                catch (VerificationException exception)
                {
                    report.Add(name, !isOurs, exception.Message);
                }
            }
        }

        return report.Finish();
    }

    private static int[] Choose(DecoderModel decoder, ServingOptions options, int count, TimeSpan limit, Progress progress)
    {
        bool varies = decoder.Options.Kernels == KernelSet.Stock;
        IReadOnlyList<int[]> candidates = PromptChoice.Write(decoder, varies ? count : 1, PromptTokens, options.Seed);
        progress.Say($"{candidates.Count} prompts of {PromptTokens} tokens written");
        using var timeout = new CancellationTokenSource(limit / 2);
        return candidates.Count > 1 ? PromptChoice.Choose(decoder, options, candidates, progress.Of("prompts tried"), timeout.Token) : candidates[0];
    }

    /// <summary>A line every few seconds, so that a run that takes long or hangs shows where.</summary>
    private sealed class Progress(string name)
    {
        private static readonly TimeSpan s_every = TimeSpan.FromSeconds(2);

        private readonly Stopwatch _clock = Stopwatch.StartNew();
        private TimeSpan _said;

        public void Say(string what)
        {
            _said = _clock.Elapsed;
            Console.WriteLine(FormattableString.Invariant($"       {name}: {what} ({_said.TotalSeconds:F1} s)"));
        }

        public IProgress<(int Done, int Total)> Of(string what) => new Lines(this, what);

        private sealed class Lines(Progress owner, string what) : IProgress<(int Done, int Total)>
        {
            public void Report((int Done, int Total) value)
            {
                if (owner._clock.Elapsed - owner._said >= s_every)
                {
                    owner.Say($"{value.Done} of {value.Total} {what}");
                }
            }
        }
    }
}
