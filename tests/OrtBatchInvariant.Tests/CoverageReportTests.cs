namespace OrtBatchInvariant.Tests;

public sealed class CoverageReportTests
{
    private const string Head = """{"provider":"BatchInvariantExecutionProvider","device":"cpu","instructionSet":"avx2","nodes":[""";
    private const string Ours = """{"name":"q","op":"MatMul","domain":"","servedBy":"batch-invariant","contract":"gemm.f32.v1","reason":""}""";
    private const string Also = """{"name":"k","op":"MatMul","domain":"","servedBy":"batch-invariant","contract":"gemm.f32.v1","reason":""}""";
    private const string Stock = """{"name":"a","op":"Add","domain":"","servedBy":"stock-invariant","contract":"","reason":""}""";
    private const string Varying = """{"name":"conv","op":"Conv","domain":"","servedBy":"stock-varying","contract":"","reason":"this op is not served"}""";

    [Fact]
    public void EveryFieldIsRead()
    {
        CoverageReport report = Report(Ours, Stock, Varying);
        Assert.Equal("BatchInvariantExecutionProvider", report.Provider);
        Assert.Equal("cpu", report.Device);
        Assert.Equal("avx2", report.InstructionSet);
        Assert.Empty(report.SelfTest);
        Assert.Equal(
            [
                new CoverageNode("q", "MatMul", "", ServedBy.BatchInvariant, "gemm.f32.v1", ""),
                new CoverageNode("a", "Add", "", ServedBy.StockInvariant, "", ""),
                new CoverageNode("conv", "Conv", "", ServedBy.StockVarying, "", "this op is not served"),
            ],
            report.Nodes);
        Assert.Equal("conv", Assert.Single(report.VaryingNodes).Name);
        Assert.Equal(
            "3 nodes on cpu (avx2): 1 by BatchInvariantExecutionProvider, 1 by stock kernels that do not vary, 1 by stock kernels that can vary",
            report.ToString());
    }

    [Fact]
    public void SelfTestOfADeviceIsRead() => Assert.Equal(
        "212 comparisons",
        CoverageReport.Parse("""{"provider":"p","device":"cuda:0 GPU","selfTest":"212 comparisons","instructionSet":"avx2","nodes":[]}""").SelfTest);

    [Fact]
    public void StreamsOfADeviceAreRead()
    {
        const string Json = """{"provider":"p","device":"cuda:0 GPU","instructionSet":"avx2","streams":{"runs":3,"runsOnSeveral":0,"callsOnGiven":41,"callsOnOwn":2},"nodes":[]}""";
        Assert.Equal(new StreamUse(3, 0, 41, 2), CoverageReport.Parse(Json).Streams);
        Assert.Null(Report(Ours).Streams);
    }

    [Fact]
    public void SummaryCountsEqualNodesInOrder() =>
        Assert.Equal(
            [
                new CoverageSummary("MatMul", "", ServedBy.BatchInvariant, "gemm.f32.v1", "", 2),
                new CoverageSummary("Add", "", ServedBy.StockInvariant, "", "", 1),
            ],
            Report(Ours, Stock, Also).Summarize());

    [Theory]
    [InlineData(1, "Node 'conv' (Conv) can vary with the batch: this op is not served.")]
    [InlineData(2, "Node 'conv' (Conv) can vary with the batch: this op is not served; 1 other node can as well.")]
    [InlineData(3, "Node 'conv' (Conv) can vary with the batch: this op is not served; 2 other nodes can as well.")]
    public void VaryingNodesThrow(int count, string message)
    {
        CoverageReport report = Report([Ours, .. Enumerable.Repeat(Varying, count)]);
        Assert.Equal(message, Assert.Throws<BatchInvariantException>(report.ThrowIfVarying).Message);
    }

    [Fact]
    public void NothingVaryingDoesNotThrow() => Report(Ours, Stock).ThrowIfVarying();

    [Theory]
    [InlineData("")]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("""{"provider":"p","device":"cpu","instructionSet":"avx2"}""")]
    [InlineData("""{"provider":null,"device":"cpu","instructionSet":"avx2","nodes":[]}""")]
    [InlineData(Head)]
    [InlineData(Head + """{"name":"q"}]}""")]
    [InlineData(Head + """{"name":"q","op":"MatMul","domain":"","servedBy":"someone","contract":"","reason":""}]}""")]
    public void OtherTextIsRefused(string json) =>
        Assert.StartsWith(
            "The coverage report is not valid: ", Assert.Throws<BatchInvariantException>(() => CoverageReport.Parse(json)).Message, StringComparison.Ordinal);

    private static CoverageReport Report(params string[] nodes) => CoverageReport.Parse(Head + string.Join(",", nodes) + "]}");
}
