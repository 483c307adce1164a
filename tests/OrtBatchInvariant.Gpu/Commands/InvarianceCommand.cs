using System.CommandLine;
using OrtBatchInvariant.Gpu.Models;
using OrtBatchInvariant.Gpu.Records;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Gpu.Commands;

/// <summary>`invariance`: the bytes of whole models' logits along every axis of the promise.</summary>
internal static class InvarianceCommand
{
    public static Command Create()
    {
        var command = new Command("invariance", "Compare the bytes of logits across batches, padding, chunks, steps, KV buffers, graphs and threads.");
        var common = new CommonOptions(command);
        var only = new Option<string?>("--only") { Description = "Only models whose name contains TEXT.", HelpName = "TEXT" };
        var maxRows = new Option<int>("--max-rows") { Description = "The largest batch.", DefaultValueFactory = _ => 64 };
        var families = new Option<bool>("--families") { Description = "A small model of each other family that can be exported, instead of the standard ones; implies few values." };
        command.Add(only);
        command.Add(families);
        command.Add(maxRows);
        command.SetAction(parsed => Run(common.Read(parsed), parsed.GetValue(families), parsed.GetValue(only), parsed.GetValue(maxRows)));
        return command;
    }

    private static int Run(CommonValues values, bool families, string? only, int maxRows)
    {
        IReadOnlyList<TestModel> models = families ? FamilyModels.For(values.DeviceId is not null) : values.Models;
        if (values is { IsQuick: true, Stock: false })
        {
            models = [.. models.Where(model => !model.IsTrained).Take(2)];
        }

        var report = new CheckReport("invariance", values.JsonFile);
        bool stockVaries = false;
        foreach (TestModel model in models.Where(model => only is null || model.Name.Contains(only, StringComparison.OrdinalIgnoreCase)))
        {
            ModelFolder folder = model.Make(values.ModelsFolder);
            var options = new AuditOptions
            {
                IsQuick = values.IsQuick || families, MaxRows = values.Rows(maxRows), HostileTokens = model.HostileTokens, Seed = Random.Shared.Next(), FindsBlame = false,
            };
            foreach (KernelSet kernels in values.Kernels)
            {
                stockVaries |= Check(report, values, model, folder, kernels, options with { Axes = Axes(values, kernels) }) && kernels == KernelSet.Stock;
            }
        }

        if (values.Stock)
        {
            report.Add("stock kernels vary", stockVaries, "the axes can fail");
        }

        return report.Finish();
    }

    // Whether stock kernels stand copies beside the capture of a graph is not asked here.
    private static IReadOnlyList<AuditAxis> Axes(CommonValues values, KernelSet kernels)
    {
        string[] elsewhere = values.DeviceId is null ? ["cuda-graph", "sessions", "fresh-process"]
            : kernels == KernelSet.Stock ? ["threads", "sessions", "fresh-process"]
            : ["threads", "fresh-process"];
        return [.. AuditAxis.All.Where(axis => !elsewhere.Contains(axis.Id))];
    }

    // Whether a logit differed.
    private static bool Check(
        CheckReport report, CommonValues values, TestModel model, ModelFolder folder, KernelSet kernels, AuditOptions options)
    {
        bool differed = false;
        try
        {
            InvarianceAudit.Run(folder, values.Options(kernels), options, axisDone: axis =>
            {
                differed |= axis.Varies;
                report.AddAxis(model.Name, CommonValues.Name(kernels), axis, mustHold: kernels == KernelSet.BatchInvariant);
            });
        }
        catch (VerificationException exception)
        {
            report.Add($"{model.Name}, {CommonValues.Name(kernels)}", kernels == KernelSet.Stock, exception.Message);
        }

        return differed;
    }
}
