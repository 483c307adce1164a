namespace OrtBatchInvariant.Tests;

public sealed class BatchInvariantOptionsTests
{
    [Fact]
    public void DefaultIsStrictOnTheCpu() =>
        Assert.Equal(new Dictionary<string, string> { ["strict"] = "1" }, new BatchInvariantOptions().ToProviderOptions());

    [Fact]
    public void EveryOptionHasItsKey()
    {
        var options = new BatchInvariantOptions
        {
            Strict = false, InstructionSet = CpuInstructionSet.Avx512, DeviceId = 1, EnableCudaGraph = true, ReportId = "mine",
        };
        var expected = new Dictionary<string, string>
        {
            ["strict"] = "0", ["instruction_set"] = "avx512", ["device_id"] = "1", ["enable_cuda_graph"] = "1", ["report_id"] = "mine",
        };
        Assert.Equal(expected, options.ToProviderOptions());
    }

    [Theory]
    [InlineData(CpuInstructionSet.Scalar, "scalar")]
    [InlineData(CpuInstructionSet.Avx2, "avx2")]
    [InlineData(CpuInstructionSet.Avx512, "avx512")]
    [InlineData(CpuInstructionSet.Neon, "neon")]
    public void InstructionSetsHaveTheNativeNames(CpuInstructionSet instructionSet, string name) =>
        Assert.Equal(name, new BatchInvariantOptions { InstructionSet = instructionSet }.ToProviderOptions()["instruction_set"]);

    [Fact]
    public void NonsenseIsRefusedByName()
    {
        Assert.Equal(
            "InstructionSet is 99, which is not a CpuInstructionSet.", MessageOf(new() { InstructionSet = (CpuInstructionSet)99 }));
        Assert.Equal("DeviceId is -1: use 0 or more for a GPU, null for the CPU.", MessageOf(new() { DeviceId = -1 }));
        Assert.Equal("EnableCudaGraph needs a GPU: set DeviceId.", MessageOf(new() { EnableCudaGraph = true }));
        Assert.Equal("ReportId is empty: give it a name, or null to have one made up.", MessageOf(new() { ReportId = "" }));
    }

    private static string MessageOf(BatchInvariantOptions options) => Assert.Throws<BatchInvariantException>(options.ToProviderOptions).Message;
}
