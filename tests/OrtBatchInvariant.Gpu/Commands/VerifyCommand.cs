using System.CommandLine;
using System.Globalization;
using OrtBatchInvariant.Gpu.Models;
using OrtBatchInvariant.Gpu.Records;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Audit;
using OrtBatchInvariant.Verification.Audit.Reports;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Files;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Gpu.Commands;

/// <summary>`verify`: what `ortbi verify` does, without GenAI: a quick audit, the nodes that differ, and the report.</summary>
internal static class VerifyCommand
{
    private const string DemoModel = "demo int4";
    private const string RandomModel = "random int4";
    private const int MaxRows = 16;

    // The others are the invariance command's.
    private static readonly string[] s_axes = ["batch-size", "padding", "chunked-prefill", "prefill-decode", "fresh-process"];

    public static Command Create()
    {
        var command = new Command("verify", "Audit a model as `ortbi verify` does, name the nodes that differ, and write the reports.");
        var common = new CommonOptions(command);
        var report = new Option<string?>("--report") { Description = "Write FILE.html, FILE.xml and FILE-report.json.", HelpName = "FILE" };
        command.Add(report);
        command.SetAction(parsed => Run(common.Read(parsed), parsed.GetValue(report)));
        return command;
    }

    /// <summary>What a fresh process runs: `fresh FOLDER DEVICE KERNELS REQUEST LOGITS`.</summary>
    public static Command CreateFresh()
    {
        var arguments = new Argument<string[]>("ARGUMENT") { Arity = new ArgumentArity(5, 5) };
        var command = new Command("fresh", "Run what another process asks for.") { arguments };
        command.Hidden = true;
        command.SetAction(parsed =>
        {
            string[] values = parsed.GetRequiredValue(arguments);
            var options = new DecoderModelOptions { DeviceId = values[1] == "cuda" ? 0 : null, Kernels = Enum.Parse<KernelSet>(values[2]) };
            using DecoderModel model = DecoderModel.Open(ModelFolder.Open(values[0]), options);
            FreshRun.Answer(model, values[3], values[4]);
            return 0;
        });
        return command;
    }

    private static int Run(CommonValues values, string? reportFile)
    {
        var report = new CheckReport("verify", values.JsonFile);
        // Stock kernels are to be told apart from ours on a model that was trained.
        string name = values is { IsQuick: true, Stock: false } ? RandomModel : DemoModel;
        TestModel model = values.Models.Single(model => model.Name == name);
        ModelFolder folder = model.Make(values.ModelsFolder);
        var audits = new List<AuditResult>();
        foreach (KernelSet kernels in values.Kernels)
        {
            try
            {
                audits.Add(Audit(report, values, model, folder, kernels));
            }
            catch (VerificationException exception)
            {
                report.Add($"{name}, {CommonValues.Name(kernels)}", false, exception.Message);
            }
        }

        if (reportFile is not null)
        {
            var whole = new VerificationReport(DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture), "ortbi-gpu verify", audits, []);
            AtomicText.Write($"{reportFile}-report.json", whole.ToJson());
            AtomicText.Write($"{reportFile}.html", HtmlReport.Write(whole));
            AtomicText.Write($"{reportFile}.xml", JUnitReport.Write(whole));
        }

        return report.Finish();
    }

    private static AuditResult Audit(CheckReport report, CommonValues values, TestModel model, ModelFolder folder, KernelSet kernels)
    {
        bool isOurs = kernels == KernelSet.BatchInvariant;
        var options = new AuditOptions
        {
            Axes = AuditAxis.Parse(s_axes),
            IsQuick = true,
            MaxRows = values.Rows(MaxRows),
            HostileTokens = model.HostileTokens,
            BlameTime = TimeSpan.FromMinutes(1),
            FreshProcess = FreshRun.ThisProgram("fresh", folder.Path, values.DeviceId is null ? "cpu" : "cuda", kernels.ToString()),
        };
        AuditResult result = InvarianceAudit.Run(
            folder, values.Options(kernels), options, axisDone: axis => report.AddAxis(model.Name, CommonValues.Name(kernels), axis, mustHold: isOurs));
        if (isOurs)
        {
            report.Add($"{model.Name}, ours: no node to blame", result.Blame is null, result.Blame is { } blame ? Named(blame) : "nothing differs");
        }
        else
        {
            HashSet<string> ops = [.. result.Blames.SelectMany(blame => blame.Introducing).Select(node => node.Op)];
            report.Add(
                $"{model.Name}, stock: the nodes to blame are MatMulNBits and GroupQueryAttention", ops.IsSupersetOf(["MatMulNBits", "GroupQueryAttention"]),
                result.Blames.Count > 0 ? string.Join("; ", result.Blames.Select(Named)) : "nothing differs");
        }

        return result;
    }

    private static string Named(BlameResult blame)
    {
        string first = blame.First is { } node ? $"first {node.Name} ({node.Op}, {node.Provider})" : "no node";
        return $"{blame.Axis}, {blame.Batch}, against {blame.Against}: {first}; given equal inputs, {AuditMessage.Ops(blame)} differ{(blame.Note is null ? "" : $"; {blame.Note}")}";
    }
}
