using System.CommandLine;
using OrtBatchInvariant.Gpu.Models;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Gpu.Commands;

/// <summary>The options that every check has.</summary>
internal sealed class CommonOptions
{
    private readonly Option<string> _device = new("--device")
    {
        Description = "cuda or cpu.", DefaultValueFactory = _ => "cuda", HelpName = "DEVICE",
        Validators =
        {
            result =>
            {
                if (result.Tokens is [var token] && token.Value is not ("cuda" or "cpu"))
                {
                    result.AddError($"--device is '{token.Value}': use cuda or cpu.");
                }
            },
        },
    };

    private readonly Option<string> _models = new("--models")
    {
        Description = "The folder to write test models to; those that are there already are used.",
        DefaultValueFactory = _ => Path.Combine(Path.GetTempPath(), "ortbi-gpu-models"), HelpName = "FOLDER",
    };

    private readonly Option<string?> _json = new("--json") { Description = "Write the results to FILE.", HelpName = "FILE" };
    private readonly Option<bool> _quick = new("--quick") { Description = "Few values and small models." };
    private readonly Option<bool> _stock = new("--stock") { Description = "Run ONNX Runtime's own kernels as well." };

    public CommonOptions(Command command)
    {
        foreach (Option option in (Option[])[_device, _models, _json, _quick, _stock])
        {
            command.Add(option);
        }
    }

    public CommonValues Read(ParseResult parsed) => new(
        parsed.GetRequiredValue(_device) == "cuda" ? 0 : null,
        Path.GetFullPath(parsed.GetRequiredValue(_models)),
        parsed.GetValue(_json),
        parsed.GetValue(_quick),
        parsed.GetValue(_stock));
}

/// <summary>What the options of a check were given.</summary>
internal sealed record CommonValues(int? DeviceId, string ModelsFolder, string? JsonFile, bool IsQuick, bool Stock)
{
    private const int QuickRows = 4;

    public IReadOnlyList<TestModel> Models => TestModel.For(DeviceId is not null, IsQuick);

    public IReadOnlyList<KernelSet> Kernels => Stock ? [KernelSet.Stock, KernelSet.BatchInvariant] : [KernelSet.BatchInvariant];

    /// <summary>Of batches that could have up to so many rows, how many they have.</summary>
    public int Rows(int rows) => IsQuick ? Math.Min(rows, QuickRows) : rows;

    public DecoderModelOptions Options(KernelSet kernels) => new() { DeviceId = DeviceId, Kernels = kernels };

    public static string Name(KernelSet kernels) => kernels == KernelSet.Stock ? "stock" : "ours";
}
