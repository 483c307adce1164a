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
            CoverageReport coverage = Check(report, model.Name, folder, values.Options(KernelSet.BatchInvariant), values.ModelsFolder);
            if (values.DeviceId is not null && model.Name == values.Models[0].Name)
            {
                report.Add("start-up self-test", coverage.SelfTest.Length > 0, $"{coverage.Device}: {coverage.SelfTest}");
            }

            if (values is { Stock: true, DeviceId: not null })
            {
                Check(
                    report, $"{model.Name}, beside ONNX Runtime's CUDA provider", folder,
                    values.Options(KernelSet.BatchInvariant) with { BesideStockCuda = true }, values.ModelsFolder);
            }
        }

        return report.Finish();
    }

    private static CoverageReport Check(CheckReport report, string name, ModelFolder folder, DecoderModelOptions options, string work)
    {
        string profile;
        CoverageReport coverage;
        using (DecoderModel model = DecoderModel.Open(folder, options with { ProfilePrefix = Path.Combine(work, "profile") }))
        {
            using var batch = new DecoderBatch(model, 2, 24);
            batch.Append([[1, 2, 3, 4, 5], [6, 7, 8]]).Dispose();
            batch.Step([9, 10]).Dispose();
            batch.Append([[11], [12]]).Dispose();
            coverage = model.Coverage!;
            profile = model.EndProfiling();
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
        return coverage;
    }
}
