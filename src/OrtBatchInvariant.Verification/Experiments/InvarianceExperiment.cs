using OrtBatchInvariant.Verification.Axes;
using OrtBatchInvariant.Verification.Completions;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Experiments;

/// <summary>Completes the same prompts over and over, with everything varied that must not matter, and counts different answers.</summary>
public static class InvarianceExperiment
{
    private const int RandomPromptTokens = 24;

    /// <summary>Runs the experiment with one set of kernels.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="host">How to load it.</param>
    /// <param name="options">What to run.</param>
    /// <param name="progress">Told after each batch.</param>
    /// <param name="cancellation">Stops between two batches.</param>
    /// <exception cref="VerificationException">The model cannot be loaded or run, or an axis has nothing to compare.</exception>
    public static ExperimentResult Run(
        ModelFolder folder,
        HostOptions host,
        ExperimentOptions options,
        IProgress<ExperimentProgress>? progress = null,
        CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(options);
        using var models = new HostedModelPool(folder, host);
        var context = new AxisContext(folder, Encode(models.Base, options), options.NewTokens, options.ThoroughPrompts, options.Seed);
        context = context with { Alone = [.. context.Prompts.Select((_, prompt) => models.BaseRunner.Run(context.Copies(prompt, 1))[0])] };

        var plan = options.Axes
            .Select(axis => (Axis: axis, Batches: Batches(axis, context)))
            .ToList();
        int total = plan.Sum(part => part.Batches.Sum(batch => batch.Probes));
        var all = new List<Completion>(context.Alone);
        var results = new List<AxisResult>();
        foreach ((InvarianceAxis axis, IReadOnlyList<CompletionBatch> batches) in plan)
        {
            var completions = new List<Completion>();
            foreach (CompletionBatch batch in batches)
            {
                cancellation.ThrowIfCancellationRequested();
                progress?.Report(new ExperimentProgress(axis.Name, all.Count + completions.Count - context.Alone.Count, total));
                completions.AddRange(models.Runner(batch.Threads).Run(batch));
            }

            results.Add(AxisResult.From(axis.Name, axis.Describe(context), completions));
            all.AddRange(completions);
        }

        progress?.Report(new ExperimentProgress(plan[^1].Axis.Name, total, total));
        ThrowIfPromptsAgree(all);
        return new ExperimentResult(
            host.Kernels,
            results,
            AxisResult.From("all", "all of it together", all),
            models.BaseRunner.GeneratedTokens,
            models.BaseRunner.Elapsed,
            context.Prompts.Count,
            models.Base.Folder.HasTokenizer ? FindParting(all, models.Base, context.Prompts) : null);
    }

    // Sorted so that a model with another number of threads is loaded once for all prompts.
    private static IReadOnlyList<CompletionBatch> Batches(InvarianceAxis axis, AxisContext context) =>
    [
        .. Enumerable.Range(0, context.Prompts.Count)
            .SelectMany(prompt => axis.Batches(context, prompt))
            .OrderBy(batch => batch.Threads ?? 0),
    ];

    private static IReadOnlyList<int[]> Encode(HostedModel model, ExperimentOptions options)
    {
        if (!model.Folder.HasTokenizer)
        {
            var random = new Random(options.Seed);
            return [.. options.Prompts.Select(_ => RandomTokens.Draw(model.Folder, RandomPromptTokens, random))];
        }

        return
        [
            .. options.Prompts.Select(text =>
            {
                using var sequences = model.Tokenizer.Encode(text);
                return sequences[0].ToArray();
            }),
        ];
    }

    // Kernels that ignore their input would pass every comparison.
    private static void ThrowIfPromptsAgree(IEnumerable<Completion> completions)
    {
        if (completions.GroupBy(completion => completion.LogitsDigest).Any(group => group.DistinctBy(completion => completion.Prompt).Count() > 1))
        {
            throw new VerificationException("Two different prompts had the same logits, so equal logits prove nothing: the model does not look at its input.");
        }
    }

    private static PartingTexts? FindParting(IEnumerable<Completion> completions, HostedModel model, IReadOnlyList<int[]> prompts)
    {
        var parting = completions
            .GroupBy(completion => completion.Prompt)
            .SelectMany(prompt => prompt.Skip(1).Select(other => (Alone: prompt.First(), Other: other)))
            .Where(pair => pair.Alone.TokenKey != pair.Other.TokenKey)
            .OrderBy(pair => pair.Alone.Tokens.Zip(pair.Other.Tokens).TakeWhile(tokens => tokens.First == tokens.Second).Count())
            .Select(pair => ((Completion Alone, Completion Other)?)pair)
            .FirstOrDefault();
        return parting is not { } found ? null : new PartingTexts(
            model.Tokenizer.Decode(prompts[found.Alone.Prompt]),
            model.Tokenizer.Decode([.. found.Alone.Tokens]),
            model.Tokenizer.Decode([.. found.Other.Tokens]),
            found.Other.Run);
    }
}
