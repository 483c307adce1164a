using System.CommandLine;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Conversion;
using OrtBatchInvariant.Gpu.Models;
using OrtBatchInvariant.Gpu.Records;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Gpu.Commands;

/// <summary>
/// `converted`: models as custom ops, in ONNX Runtime's own CUDA provider (or on the CPU), without ours: the bytes of our provider on the
/// original, whatever the batch.
/// </summary>
internal static class ConvertedCommand
{
    private const int Capacity = 96;

    // The others are about our provider's sessions.
    private static readonly string[] s_axes = ["batch-size", "row-position", "neighbours", "padding", "chunked-prefill", "prefill-decode", "kv-buffer", "concurrency"];

    public static Command Create()
    {
        var command = new Command("converted", "Compare the logits of converted models, run by ONNX Runtime's own provider, with those of the batch-invariant provider.");
        var common = new CommonOptions(command);
        var only = new Option<string?>("--only") { Description = "Only models whose name contains TEXT.", HelpName = "TEXT" };
        command.Add(only);
        command.SetAction(parsed => Run(common.Read(parsed), parsed.GetValue(only)));
        return command;
    }

    private static int Run(CommonValues values, string? only)
    {
        var report = new CheckReport("converted", values.JsonFile);
        bool isOnGpu = values.DeviceId is not null;
        foreach (TestModel model in values.Models.Concat(FamilyModels.For(isOnGpu)).Where(model => only is null || model.Name.Contains(only, StringComparison.OrdinalIgnoreCase)))
        {
            try
            {
                Check(report, values, model);
            }
            catch (Exception exception) when (exception is VerificationException or BatchInvariantException or OrtBatchInvariant.Models.ModelException or OnnxRuntimeException)
            {
                report.Add(model.Name, false, exception.Message.ReplaceLineEndings(" "));
            }
        }

        return report.Finish();
    }

    private static void Check(CheckReport report, CommonValues values, TestModel model)
    {
        ModelFolder original = model.Make(values.ModelsFolder);
        string folder = Path.Combine(values.ModelsFolder, "converted", Path.GetFileName(original.Path));
        ConvertResult result = ModelConverter.Convert(
            original.Path, folder, new ConvertOptions { ForCuda = values.DeviceId is not null, Link = true, Overwrite = true });
        ModelFolder converted = ModelFolder.Open(folder);
        DecoderModelOptions options = values.Options(KernelSet.Stock) with
        {
            CustomOpLibrary = Path.Combine(folder, Path.GetFileName(BatchInvariantProvider.GetLibraryPath())),
        };
        byte[][] expected;
        using (DecoderModel provider = DecoderModel.Open(original, values.Options(KernelSet.BatchInvariant)))
        {
            expected = Logits(provider, model);
        }

        Compare(report, model, "converted", converted, options, expected, $"; {result.Models.Sum(file => file.CustomNodes)} custom ops, {Assignments(converted, options, values)}");
        if (values.DeviceId is not null)
        {
            Compare(report, model, "converted, in a session with CUDA graphs switched on", converted, options with { EnableCudaGraph = true }, expected, "");
        }

        var audit = new AuditOptions
        {
            IsQuick = true, MaxRows = values.Rows(16), HostileTokens = model.HostileTokens, Seed = Random.Shared.Next(), FindsBlame = false,
            Axes = [.. AuditAxis.All.Where(axis => s_axes.Contains(axis.Id))],
        };
        InvarianceAudit.Run(converted, options, audit, axisDone: axis => report.AddAxis(model.Name, "converted", axis, mustHold: true));
    }

    private static void Compare(
        CheckReport report, TestModel model, string name, ModelFolder folder, DecoderModelOptions options, byte[][] expected, string detail)
    {
        using DecoderModel custom = DecoderModel.Open(folder, options);
        report.AddComparison(
            $"{model.Name}, {name}: the provider's bytes", model.Name, expected, Logits(custom, model), custom.Shape.LogitsBytes / custom.Shape.VocabularySize, detail);
    }

    // Prompts of several lengths together, steps, a longer prompt alone, and a chunk after it: all logits.
    private static byte[][] Logits(DecoderModel model, TestModel test)
    {
        int[] hostile = [.. test.HostileTokens];
        var random = new Random(5);
        int Token() => random.Next(3, model.Shape.VocabularySize - 8);
        int[] Prompt(int length) => [.. Enumerable.Range(0, length).Select(_ => Token())];
        var logits = new List<byte[]>();
        void Take(BatchLogits taken, int[] tokens)
        {
            using (taken)
            {
                for (int row = 0; row < tokens.Length; row++)
                {
                    for (int token = 0; token < tokens[row]; token++)
                    {
                        logits.Add(taken.Bytes(row, token).ToArray());
                    }
                }
            }
        }

        using (var batch = new DecoderBatch(model, 3, Capacity, poisons: model.Options.CustomOpLibrary is not null))
        {
            // The last row is not read where it holds NaN.
            Take(batch.Append([Prompt(11), Prompt(5), hostile.Length > 0 ? hostile : Prompt(2)]), [11, 5, 0]);
            for (int step = 0; step < 6; step++)
            {
                Take(batch.Step([Token(), Token(), Token()]), [1, 1, 0]);
            }
        }

        using var one = new DecoderBatch(model, 1, Capacity);
        Take(one.Append([Prompt(40)]), [40]);
        Take(one.Append([Prompt(7)]), [7]);
        return [.. logits];
    }

    // Where the nodes ran.
    private static string Assignments(ModelFolder folder, DecoderModelOptions options, CommonValues values)
    {
        string profile;
        using (DecoderModel model = DecoderModel.Open(folder, options with { ProfilePrefix = Path.Combine(values.ModelsFolder, "profile") }))
        {
            using var batch = new DecoderBatch(model, 2, 24);
            batch.Append([[1, 2, 3], [4, 5]]).Dispose();
            profile = model.EndProfiling();
        }

        IReadOnlyList<NodeAssignment> nodes = NodeAssignments.Read(profile);
        File.Delete(profile);
        return string.Join(", ", nodes.GroupBy(node => node.Provider).OrderByDescending(group => group.Count()).Select(group => $"{group.Count()} nodes on {group.Key}"));
    }
}
