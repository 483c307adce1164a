using System.Globalization;

namespace OrtBatchInvariant;

/// <summary>What a session asks of the batch-invariant provider.</summary>
public class BatchInvariantOptions
{
    /// <summary>
    /// Whether a session is refused when one of its nodes would be left to a stock kernel whose result depends on the batch.
    /// </summary>
    /// <value>The default is <see langword="true"/>. With <see langword="false"/> such nodes are listed in the
    /// <see cref="CoverageReport"/> instead.</value>
    public bool Strict { get; set; } = true;

    /// <summary>The CPU kernels to use.</summary>
    /// <value>The default is <see langword="null"/>: the fastest set that the processor has.</value>
    public CpuInstructionSet? InstructionSet { get; set; }

    /// <summary>The GPU to run on, counted from 0 in the order of CUDA.</summary>
    /// <value>The default is <see langword="null"/>: run on the CPU.</value>
    public int? DeviceId { get; set; }

    /// <summary>Whether decode steps are captured and replayed as CUDA graphs. Needs <see cref="DeviceId"/>.</summary>
    /// <value>The default is <see langword="false"/>.</value>
    public bool EnableCudaGraph { get; set; }

    /// <summary>The name under which the session's coverage report is kept, for <see cref="CoverageReport.Get"/>.</summary>
    /// <value>The default is <see langword="null"/>: a name is made up.</value>
    public string? ReportId { get; set; }

    /// <summary>Whether the session ends once its report is made, before any weight is read.</summary>
    internal bool DryRun { get; set; }

    /// <summary>Whether a dry run is about a session on a GPU, whether this machine has one or not.</summary>
    internal bool PlansForCuda { get; set; }

    /// <summary>These options as the key-value pairs that the native provider reads.</summary>
    /// <exception cref="BatchInvariantException">A value, or a combination of values, makes no sense.</exception>
    public IReadOnlyDictionary<string, string> ToProviderOptions()
    {
        var pairs = new Dictionary<string, string> { ["strict"] = Strict ? "1" : "0" };
        if (InstructionSet is { } instructionSet)
        {
            pairs["instruction_set"] = instructionSet switch
            {
                CpuInstructionSet.Scalar => "scalar",
                CpuInstructionSet.Avx2 => "avx2",
                CpuInstructionSet.Avx512 => "avx512",
                CpuInstructionSet.Neon => "neon",
                _ => throw new BatchInvariantException($"{nameof(InstructionSet)} is {(int)instructionSet}, which is not a {nameof(CpuInstructionSet)}."),
            };
        }

        if (DeviceId is { } deviceId)
        {
            if (deviceId < 0)
            {
                throw new BatchInvariantException($"{nameof(DeviceId)} is {deviceId}: use 0 or more for a GPU, null for the CPU.");
            }

            pairs["device_id"] = deviceId.ToString(CultureInfo.InvariantCulture);
        }

        if (EnableCudaGraph)
        {
            if (DeviceId is null)
            {
                throw new BatchInvariantException($"{nameof(EnableCudaGraph)} needs a GPU: set {nameof(DeviceId)}.");
            }

            pairs["enable_cuda_graph"] = "1";
        }

        if (DryRun)
        {
            pairs["dry_run"] = "1";
        }

        if (PlansForCuda)
        {
            pairs["device"] = "cuda";
        }

        if (ReportId is { } reportId)
        {
            if (reportId.Length == 0)
            {
                throw new BatchInvariantException($"{nameof(ReportId)} is empty: give it a name, or null to have one made up.");
            }

            pairs["report_id"] = reportId;
        }

        return pairs;
    }
}
