using System.CommandLine;
using OrtBatchInvariant.Cli.Verify;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Audit.Serving;

namespace OrtBatchInvariant.Cli.Commands;

/// <summary>`ortbi verify`: whether the logits of any decoder, with any provider, depend on the batch, and which node is to blame.</summary>
internal static class VerifyCommand
{
    private static readonly string[] s_providers = ["cpu", "cuda", "batch-invariant"];

    public static Command Create()
    {
        var model = new Argument<string>("MODEL") { Description = "A GenAI model folder, or a decoder's .onnx file." };
        var provider = new Option<string>("--provider")
        {
            Description = "Whose kernels: cpu or cuda, ONNX Runtime's own, or batch-invariant; several with commas between them.",
            HelpName = "NAME,...",
            DefaultValueFactory = _ => "batch-invariant",
        };
        var device = new Option<string>("--device") { Description = "Where batch-invariant kernels run: cpu or cuda.", DefaultValueFactory = _ => "cpu" };
        device.AcceptOnlyFromAmong("cpu", "cuda");
        var axes = new Option<string?>("--axes")
        {
            Description = $"What to vary, all if not given: {string.Join(", ", AuditAxis.All.Select(axis => axis.Id))}.",
            HelpName = "NAME,...",
        };
        var quick = new Option<bool>("--quick") { Description = "Try fewer values of everything: a first look." };
        var seed = new Option<int>("--seed") { Description = "What prompts, neighbours and arrivals are drawn from.", HelpName = "S", DefaultValueFactory = _ => 1 };
        var prompt = new Option<string?>("--prompt") { Description = "The text to start from; without it one is drawn.", HelpName = "TEXT" };
        var promptTokens = Count("--prompt-tokens", "Tokens of a prompt that is drawn.", 150, 2);
        var tokens = new Option<int?>("--tokens") { Description = "Tokens of a completion.", HelpName = "N", Validators = { result => Arguments.AtLeast(result, 1) } };
        var maxRows = new Option<int?>("--max-rows") { Description = "The largest batch.", HelpName = "N", Validators = { result => Arguments.AtLeast(result, 2) } };
        var completions = new Option<int?>("--completions")
        {
            Description = "Complete one prompt N times, at temperature 0 and sampled, among others that join and leave the batch.",
            HelpName = "N",
            Validators = { result => Arguments.AtLeast(result, 2) },
        };
        var arrivals = new Option<Arrivals>("--arrivals") { Description = "How the others come: poisson, or in batches.", DefaultValueFactory = _ => Arrivals.Poisson };
        var buckets = new Option<bool>("--buckets")
        {
            Description = "Pad batches of completions to 1, 2, 4, ... requests, their prompts to 32, 64, 128, ... tokens and their attention masks to the KV buffer, so that kernels see few shapes; the first run of each is not timed.",
        };
        var engine = new Option<string>("--engine")
        {
            Description = "What batches completions: session, a continuous batch over a bare session; or genai, GenAI's Engine on the CPU, which gives tokens at temperature 0 and no logits.",
            DefaultValueFactory = _ => "session",
        };
        engine.AcceptOnlyFromAmong("session", "genai");
        var choosePrompt = new Option<int?>("--choose-prompt")
        {
            Description = "Of N texts that the model writes, complete the one whose completions differ most with the first provider.",
            HelpName = "N",
            Validators = { result => Arguments.AtLeast(result, 1) },
        };
        var record = new Option<string?>("--record") { Description = "Write digests of the logits to FILE.", HelpName = "FILE" };
        var check = new Option<string?>("--check") { Description = "Compare logits with the digests in FILE. Exit code 3 if they differ.", HelpName = "FILE" };
        var html = new Option<string?>("--html") { Description = "Write the results to FILE as a page of its own.", HelpName = "FILE" };
        var junit = new Option<string?>("--junit") { Description = "Write the results to FILE as JUnit XML.", HelpName = "FILE" };
        var fresh = new Option<string[]>("--fresh") { Description = "Run what another process asks for.", Hidden = true, Arity = new ArgumentArity(2, 2), AllowMultipleArgumentsPerToken = true };
        Option<string?> json = Arguments.JsonFile();
        Option<int?> threads = Arguments.Threads();
        var command = new Command("verify", "Audit a model: compare logits as bytes along every axis of the promise, and name the nodes that differ. Exit code 3 if any logit does.")
        {
            model, provider, device, axes, quick, seed, prompt, promptTokens, tokens, maxRows, completions, arrivals, buckets, engine, choosePrompt, record, check, json, junit, html, threads, fresh,
        };
        provider.Validators.Add(result =>
        {
            if (result.GetValueOrDefault<string>().Split(',').FirstOrDefault(name => !s_providers.Contains(name)) is { } unknown)
            {
                result.AddError($"--provider has '{unknown}': use {string.Join(", ", s_providers)}");
            }
        });
        axes.Validators.Add(result =>
        {
            try
            {
                AuditAxis.Parse(result.GetValueOrDefault<string?>()?.Split(',') ?? []);
            }
            catch (VerificationException exception)
            {
                result.AddError(exception.Message.TrimEnd('.'));
            }
        });
        command.Check(result =>
        {
            if ((result.GetValue(record) ?? result.GetValue(check)) is not null
                && (result.GetValue(completions) is not null || result.GetValue(axes) is not null || (result.GetValue(provider) is { } several && several.Contains(','))
                    || (result.GetValue(record) is not null && result.GetValue(check) is not null)))
            {
                result.AddError("--record and --check take one provider, and exclude each other, --axes and --completions");
            }
        });

        command.Check(result =>
        {
            if (result.GetValue(choosePrompt) is not null && (result.GetValue(completions) is null || result.GetValue(prompt) is not null))
            {
                result.AddError("--choose-prompt needs --completions, and no --prompt");
            }

            if (result.GetValue(buckets) && result.GetValue(completions) is null)
            {
                result.AddError("--buckets needs --completions");
            }

            if (result.GetValue(engine) == "genai"
                && (result.GetValue(completions) is null || result.GetValue(buckets) || result.GetValue(device) == "cuda" || (result.GetValue(provider)?.Split(',').Contains("cuda") ?? false)))
            {
                result.AddError("--engine genai needs --completions, runs on the CPU, and takes no --buckets");
            }
        });

        command.SetStoppableAction((parsed, cancellation) => VerifyRun.Run(
            new VerifyRequest
            {
                Model = parsed.GetRequiredValue(model),
                Providers = parsed.GetRequiredValue(provider).Split(','),
                IsOnGpu = parsed.GetValue(device) == "cuda",
                Axes = parsed.GetValue(axes)?.Split(','),
                IsQuick = parsed.GetValue(quick),
                Seed = parsed.GetValue(seed),
                Prompt = parsed.GetValue(prompt),
                PromptTokens = parsed.GetValue(promptTokens),
                Tokens = parsed.GetValue(tokens),
                MaxRows = parsed.GetValue(maxRows),
                Completions = parsed.GetValue(completions),
                Arrivals = parsed.GetValue(arrivals),
                PadsToBuckets = parsed.GetValue(buckets),
                InGenAIEngine = parsed.GetValue(engine) == "genai",
                ChoosePrompt = parsed.GetValue(choosePrompt),
                RecordFile = parsed.GetValue(record),
                CheckFile = parsed.GetValue(check),
                JsonFile = parsed.GetValue(json),
                JUnitFile = parsed.GetValue(junit),
                HtmlFile = parsed.GetValue(html),
                Threads = parsed.GetValue(threads),
                Fresh = parsed.GetValue(fresh) is [var request, var logits] ? (request, logits) : null,
            },
            cancellation));
        return command;
    }

    private static Option<int> Count(string name, string description, int usual, int minimum) => new(name)
    {
        Description = description, HelpName = "N", DefaultValueFactory = _ => usual, Validators = { result => Arguments.AtLeast(result, minimum) },
    };
}
