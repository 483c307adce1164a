using System.CommandLine;
using System.CommandLine.Parsing;
using System.Diagnostics;
using System.Globalization;
using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Cli.Commands;

/// <summary>`ortbi generate`: streams a completion through GenAI's loop.</summary>
internal static class GenerateCommand
{
    private sealed record Request(string Prompt, int MaxTokens, double? Temperature, int Seed);

    public static Command Create()
    {
        Argument<string> model = Arguments.Model();
        var prompt = new Option<string>("--prompt", "-p") { Description = "The text to continue.", HelpName = "TEXT", Required = true };
        var maxTokens = new Option<int>("--max-tokens")
        {
            Description = "The most tokens to generate.",
            HelpName = "N",
            DefaultValueFactory = _ => 100,
            Validators = { result => Arguments.AtLeast(result, 1) },
        };
        var stock = new Option<bool>("--stock") { Description = "Use the model's own providers, not the batch-invariant one." };
        var temperature = new Option<double?>("--temperature")
        {
            Description = "Sample at this temperature, for example 0.8; without it the likeliest token is taken.",
            HelpName = "T",
            CustomParser = ParseTemperature,
        };
        var seed = new Option<int>("--seed") { Description = "What sampling starts from.", HelpName = "S" };
        Option<int?> threads = Arguments.Threads();
        Option<bool> noStrict = Arguments.NoStrict();
        var command = new Command("generate", "Continue a prompt and print the text as it comes.")
        {
            model, prompt, maxTokens, stock, temperature, seed, threads, noStrict,
        };
        command.Check(result =>
        {
            if (result.GetResult(seed) is { Implicit: false } && result.GetResult(temperature) is null)
            {
                result.AddError("--seed goes with --temperature: without it nothing is drawn");
            }
        });
        command.SetStoppableAction((parsed, cancellation) => Run(
            parsed.GetRequiredValue(model),
            new HostOptions
            {
                Kernels = parsed.GetValue(stock) ? KernelSet.Stock : KernelSet.BatchInvariant,
                Threads = parsed.GetValue(threads),
                Strict = !parsed.GetValue(noStrict),
            },
            new Request(parsed.GetRequiredValue(prompt), parsed.GetValue(maxTokens), parsed.GetValue(temperature), parsed.GetValue(seed)),
            cancellation));
        return command;
    }

    // As written everywhere, with a point: where a comma is the decimal sign, 0.8 would else be read as 8.
    private static double? ParseTemperature(ArgumentResult result)
    {
        string text = result.Tokens[0].Value;
        if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value) && double.IsFinite(value) && value >= 0)
        {
            return value;
        }

        result.AddError($"--temperature is '{text}': use a number of 0 or more, for example 0.8");
        return null;
    }

    private static int Run(string path, HostOptions options, Request request, CancellationToken cancellation)
    {
        ModelFolder folder = ModelFolder.Open(path);
        OnnxRuntimeLibrary.LoadFirst();
        using var genAI = new OgaHandle();
        using HostedModel model = HostedModel.Load(folder, options);
        Tokenizer tokenizer = model.Tokenizer;
        using Sequences tokens = tokenizer.Encode(request.Prompt);
        if (tokens.NumSequences == 0 || tokens[0].Length == 0)
        {
            throw new VerificationException("The prompt has no tokens: give it some text.");
        }

        if (tokens[0].Length >= folder.ContextLength)
        {
            throw new VerificationException($"The prompt has {tokens[0].Length} tokens, and the model's context {folder.ContextLength}: shorten it.");
        }

        using var parameters = new GeneratorParams(model.Model);
        parameters.SetSearchOption("max_length", Math.Min(folder.ContextLength, tokens[0].Length + (double)request.MaxTokens));
        parameters.SetSearchOption("do_sample", request.Temperature is > 0);
        if (request.Temperature is > 0)
        {
            parameters.SetSearchOption("temperature", request.Temperature.Value);
            parameters.SetSearchOption("random_seed", request.Seed);
        }

        Console.Write(request.Prompt);
        long start = Stopwatch.GetTimestamp();
        int generated = 0;
        using var generator = new Generator(model.Model, parameters);
        using TokenizerStream stream = tokenizer.CreateStream();
        generator.AppendTokenSequences(tokens);
        try
        {
            while (!generator.IsDone())
            {
                cancellation.ThrowIfCancellationRequested();
                generator.GenerateNextToken();
                generated++;
                Console.Write(stream.Decode(generator.GetNextTokens()[0]));
            }
        }
        finally
        {
            Console.WriteLine();
        }

        Console.Error.WriteLine(FormattableString.Invariant(
            $"{generated} tokens, {generated / Stopwatch.GetElapsedTime(start).TotalSeconds:F0} a second"));
        return ExitCode.Success;
    }
}
