using System.CommandLine;
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

    public static Command Create()
    {
        var command = new Command("completions", "Complete one prompt over and over among random neighbours and count different answers.");
        var common = new CommonOptions(command);
        var count = new Option<int>("--count") { Description = "Number of completions.", DefaultValueFactory = _ => 1000 };
        var tokens = new Option<int>("--tokens") { Description = "Tokens of a completion.", DefaultValueFactory = _ => 24 };
        var maxRows = new Option<int>("--max-rows") { Description = "The largest batch.", DefaultValueFactory = _ => 64 };
        foreach (Option option in (Option[])[count, tokens, maxRows])
        {
            command.Add(option);
        }

        command.SetAction(parsed => Run(common.Read(parsed), parsed.GetValue(count), parsed.GetValue(tokens), parsed.GetValue(maxRows)));
        return command;
    }

    private static int Run(CommonValues values, int count, int tokens, int maxRows)
    {
        var report = new CheckReport("completions", values.JsonFile);
        int seed = Random.Shared.Next();
        foreach (TestModel model in values.Models.Where(model => model.IsTrained))
        {
            ModelFolder folder = model.Make(values.ModelsFolder);
            var random = new Random(seed);
            int[] prompt = [.. Enumerable.Range(0, PromptTokens).Select(_ => random.Next(folder.VocabularySize))];
            foreach (KernelSet kernels in values.Kernels)
            {
                bool isOurs = kernels == KernelSet.BatchInvariant;
                try
                {
                    using DecoderModel decoder = DecoderModel.Open(folder, values.Options(kernels));
                    ServingResult result = ServingExperiment.Run(
                        decoder, new ServingOptions { Prompt = prompt, Completions = count, NewTokens = tokens, MaxRows = maxRows, Seed = seed });
                    report.AddCompletions(model.Name, CommonValues.Name(kernels), result, mustHold: isOurs);
                }
                catch (VerificationException exception)
                {
                    report.Add($"{model.Name}, {CommonValues.Name(kernels)}", !isOurs, exception.Message);
                }
            }
        }

        return report.Finish();
    }
}
