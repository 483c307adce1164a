using System.CommandLine;
using OrtBatchInvariant.Gpu.Models;
using OrtBatchInvariant.Gpu.Records;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Gpu.Commands;

/// <summary>`alone`: where every node of a decoder really ran. On a GPU nothing but shape arithmetic may be left to the CPU.</summary>
internal static class AloneCommand
{
    public static Command Create()
    {
        var command = new Command("alone", "Check that a decoder's graph runs wholly on the device, beside nothing but ONNX Runtime's CPU provider.");
        var common = new CommonOptions(command);
        command.SetAction(parsed => Run(common.Read(parsed)));
        return command;
    }

    private static int Run(CommonValues values)
    {
        var report = new CheckReport("alone", values.JsonFile);

        // The standard models are those of the precisions that most use; the families have the others.
        foreach (TestModel model in values.IsQuick ? values.Models : [.. values.Models, .. FamilyModels.For(values.DeviceId is not null)])
        {
            ModelFolder folder = model.Make(values.ModelsFolder);
            Seen alone = Check(report, model.Name, folder, values.Options(KernelSet.BatchInvariant), values.ModelsFolder);
            if (values.DeviceId is not null && model.Name == values.Models[0].Name)
            {
                report.Add("start-up self-test", alone.Coverage.SelfTest.Length > 0, $"{alone.Coverage.Device}: {alone.Coverage.SelfTest}");
            }

            if (values is { Stock: true, DeviceId: not null })
            {
                string name = $"{model.Name}, beside ONNX Runtime's CUDA provider";
                Seen beside = Check(report, name, folder, values.Options(KernelSet.BatchInvariant) with { BesideStockCuda = true }, values.ModelsFolder);
                report.AddComparison($"{name}: the bytes alone", model.Name, alone.Logits, beside.Logits, alone.LogitBytes);
            }
        }

        return report.Finish();
    }

    private static Seen Check(CheckReport report, string name, ModelFolder folder, DecoderModelOptions options, string work)
    {
        string profile;
        CoverageReport coverage;
        int logitBytes;
        var bytes = new List<byte[]>();
        using (DecoderModel model = DecoderModel.Open(folder, options with { ProfilePrefix = Path.Combine(work, "profile") }))
        {
            logitBytes = model.Shape.LogitsBytes / model.Shape.VocabularySize;
            using var batch = new DecoderBatch(model, 2, 24);
            Take(batch.Append([[1, 2, 3, 4, 5], [6, 7, 8]]), [5, 3]);
            Take(batch.Step([9, 10]), [1, 1]);
            Take(batch.Append([[11], [12]]), [1, 1]);
            coverage = model.ReadCoverage()!;
            profile = model.EndProfiling();
        }

        void Take(BatchLogits logits, int[] tokens)
        {
            using (logits)
            {
                bytes.AddRange(tokens.SelectMany((count, row) => Enumerable.Range(0, count).Select(token => logits.Bytes(row, token).ToArray())));
            }
        }

        IReadOnlyList<NodeAssignment> nodes = NodeAssignments.Read(profile);
        File.Delete(profile);
        string counts = string.Join(", ", nodes.GroupBy(node => node.Provider).OrderByDescending(group => group.Count())
            .Select(group => $"{group.Count()} on {group.Key}"));
        List<NodeAssignment> wrong = options.DeviceId is null
            ? [.. nodes.Where(node => node.Provider == "").Take(1)]
            : [.. nodes.Where(node => (node.Provider == "CPUExecutionProvider" || node.Op.StartsWith("Memcpy", StringComparison.Ordinal)) && !node.IsShapeArithmetic)];
        int ours = nodes.Count(node => node.Provider == BatchInvariantProvider.Name);
        string detail = wrong.Count == 0 ? counts : $"{counts}; left to the CPU: {string.Join(", ", wrong.Take(8).Select(node => $"{node.Name} ({node.Op})"))}";
        string varying = string.Concat(coverage.VaryingNodes.Take(8).Select(node => $", {node.Name} ({node.Op}): {node.Reason}"));
        report.Add(name, wrong.Count == 0 && coverage.VaryingNodes.Count == 0 && ours > 0, $"{detail}; {coverage.VaryingNodes.Count} nodes can vary{varying}");
        if (coverage.Streams is { } streams)
        {
            // Beside ONNX Runtime's CUDA provider a stream that ONNX Runtime names is that provider's: this one offers none.
            bool isOne = streams is { Runs: > 0, RunsOnSeveral: 0 } && (streams.CallsOnOwn == 0 || !options.BesideStockCuda);
            report.Add(
                $"{name}: one stream", isOne,
                $"{streams.CallsOnGiven} kernel calls on ONNX Runtime's stream, {streams.CallsOnOwn} on the session's own; {streams.RunsOnSeveral} of {streams.Runs} runs on several");
        }

        return new Seen(coverage, bytes, logitBytes);
    }

    private sealed record Seen(CoverageReport Coverage, IReadOnlyList<byte[]> Logits, int LogitBytes);
}
