namespace OrtBatchInvariant.Verification.Device;

/// <summary>What varying one thing did to the bytes of the logits.</summary>
/// <param name="Name">The axis: what differed from run to run.</param>
/// <param name="Values">The values that it took, in words.</param>
/// <param name="Runs">Number of batches that were run.</param>
/// <param name="ElementsCompared">Logits compared with those of the text alone in its batch.</param>
/// <param name="ElementsDifferent">Those of them whose bytes differ.</param>
/// <param name="NotRun">Why nothing could be run, or null.</param>
public sealed record DeviceAxisResult(string Name, string Values, int Runs, long ElementsCompared, long ElementsDifferent, string? NotRun)
{
    /// <summary>Whether something was compared and nothing differed.</summary>
    public bool IsInvariant => NotRun is null && ElementsCompared > 0 && ElementsDifferent == 0;
}
