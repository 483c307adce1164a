using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Tests;

[Collection(NativeCollection.Name)]
public sealed class InferenceSessionTests(ITestOutputHelper output)
{
    private const int K = 512;
    private const int N = 512;
    private const int MaxRows = 64;

    /// <summary>Every batch size and every row position, the other rows random, NaN or infinite: the bytes of a row never change.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(4)]
    public void RowsOfInt4ProductKeepTheirBytes(int accuracyLevel)
    {
        using InferenceSession session = Open(TinyModel.MatMulNBits(K, N, accuracyLevel, new Random(1)), new BatchInvariantOptions());
        (long compared, long different) = CompareRows(session, hostileNeighbours: true);
        output.WriteLine($"{compared} elements compared, {different} different");
        Assert.True(compared > 1_000_000);
        Assert.Equal(0, different);
    }

    /// <summary>The proof that the test above can fail.</summary>
    [Fact]
    public void StockRowsOfInt4ProductChangeTheirBytes()
    {
        using var session = new InferenceSession(TinyModel.MatMulNBits(K, N, 0, new Random(1)));
        (long compared, long different) = CompareRows(session, hostileNeighbours: false);
        output.WriteLine($"{compared} elements compared, {different} different");
        Assert.NotEqual(0, different);
    }

    [Fact]
    public void EveryInstructionSetOfThisProcessorGivesTheSameBytes()
    {
        byte[] model = TinyModel.MatMulNBits(K, N, 0, new Random(2));
        float[] x = TinyModel.Values(3 * K, new Random(3));
        CpuInstructionSet[] sets = BatchInvariantProvider.InstructionSet switch
        {
            CpuInstructionSet.Avx512 => [CpuInstructionSet.Scalar, CpuInstructionSet.Avx2, CpuInstructionSet.Avx512],
            CpuInstructionSet.Avx2 => [CpuInstructionSet.Scalar, CpuInstructionSet.Avx2],
            CpuInstructionSet.Neon => [CpuInstructionSet.Scalar, CpuInstructionSet.Neon],
            _ => [CpuInstructionSet.Scalar],
        };
        float[][] results = [.. sets.Select(set =>
        {
            using InferenceSession session = Open(model, new BatchInvariantOptions { InstructionSet = set });
            return Run(session, x, 3);
        })];
        Assert.All(results, result => Assert.Equal(MemoryMarshal.AsBytes(results[0].AsSpan()).ToArray(), MemoryMarshal.AsBytes(result.AsSpan()).ToArray()));
        output.WriteLine($"{string.Join(", ", sets)}: {(sets.Length - 1) * 3 * N} elements compared");
    }

    [Fact]
    public void ReportNamesEveryNode()
    {
        using var options = new SessionOptions();
        options.AppendBatchInvariant();
        using var session = new InferenceSession(TinyModel.MatMulRelu(K, N, new Random(4)), options);
        CoverageReport report = CoverageReport.ForSession(options);
        Assert.Equal(BatchInvariantProvider.Name, report.Provider);
        Assert.Equal("cpu", report.Device);
        CoverageNode product = Assert.Single(report.Nodes, node => node.Name == "product");
        Assert.Equal(("MatMul", "", ServedBy.BatchInvariant, ""), (product.Op, product.Domain, product.ServedBy, product.Reason));
        Assert.NotEmpty(product.Contract);
        Assert.NotEqual(ServedBy.StockVarying, Assert.Single(report.Nodes, node => node.Name == "activation").ServedBy);
        Assert.Equal(2, report.Nodes.Count);
        report.ThrowIfVarying();
    }

    [Fact]
    public void StrictRefusesTheSessionAndNamesTheNode()
    {
        using var options = new SessionOptions();
        options.AppendBatchInvariant();
        var exception = Assert.Throws<OnnxRuntimeException>(() => new InferenceSession(TinyModel.Einsum(K, count: 3), options));
        output.WriteLine(exception.Message);
        Assert.Contains("'einsum_0'", exception.Message, StringComparison.Ordinal);
        Assert.Contains("Einsum", exception.Message, StringComparison.Ordinal);
        Assert.Contains("2 others", exception.Message, StringComparison.Ordinal);
        Assert.Contains("strict=0", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void WithoutStrictTheReportListsTheNodeAndItRuns()
    {
        using var options = new SessionOptions();
        options.AppendBatchInvariant(new BatchInvariantOptions { Strict = false, ReportId = "not strict" });
        using var session = new InferenceSession(TinyModel.Einsum(K), options);
        CoverageNode node = Assert.Single(CoverageReport.Get("not strict").VaryingNodes);
        Assert.Equal("einsum_0", node.Name);
        Assert.NotEmpty(node.Reason);
        Assert.Throws<BatchInvariantException>(CoverageReport.ForSession(options).ThrowIfVarying);
        Assert.Equal([K], Run(session, [.. Enumerable.Repeat(1f, K)], 1));
        CoverageReport.Release("not strict");
        Assert.Throws<BatchInvariantException>(() => CoverageReport.Get("not strict"));
    }

    [Fact]
    public void ThereIsNoReportBeforeTheSession()
    {
        using var options = new SessionOptions();
        Assert.Equal(
            "There is no coverage report for these SessionOptions: call AppendBatchInvariant on it and create a session first.",
            Assert.Throws<BatchInvariantException>(() => CoverageReport.ForSession(options)).Message);
        options.AppendBatchInvariant();
        Assert.Equal(
            "There is no coverage report for these SessionOptions yet: create a session from it first.",
            Assert.Throws<BatchInvariantException>(() => CoverageReport.ForSession(options)).Message);
        Assert.Equal(
            "There is no coverage report 'none': create a session with this ReportId first.",
            Assert.Throws<BatchInvariantException>(() => CoverageReport.Get("none")).Message);
    }

    [Fact]
    public void InstructionSetOfAnotherProcessorIsRefused()
    {
        CpuInstructionSet foreign = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? CpuInstructionSet.Avx2 : CpuInstructionSet.Neon;
        var exception = Assert.Throws<OnnxRuntimeException>(
            () => Open(TinyModel.MatMulRelu(K, N, new Random(5)), new BatchInvariantOptions { InstructionSet = foreign }));
        output.WriteLine(exception.Message);
        Assert.Contains(foreign.ToString().ToLowerInvariant(), exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void GpuThatIsNotThereIsRefused()
    {
        using var options = new SessionOptions();
        var exception = Assert.Throws<BatchInvariantException>(() => options.AppendBatchInvariant(new BatchInvariantOptions { DeviceId = 1000 }));
        Assert.StartsWith("DeviceId is 1000, but the batch-invariant provider sees ", exception.Message, StringComparison.Ordinal);
    }

    /// <summary>Runs each of several rows alone, then in batches of 1 to 64 rows at every position, and compares the bits of its outputs.</summary>
    private static (long Compared, long Different) CompareRows(InferenceSession session, bool hostileNeighbours)
    {
        var random = new Random(7);
        float[] row = TinyModel.Values(K, random);
        float[] alone = Run(session, row, 1);
        long compared = 0;
        long different = 0;
        for (int rows = 1; rows <= MaxRows; rows++)
        {
            for (int position = 0; position < rows; position++)
            {
                float[] x = TinyModel.Values(rows * K, random);
                if (hostileNeighbours)
                {
                    Array.Fill(x, position % 2 == 0 ? float.NaN : float.PositiveInfinity, (position + 1) % rows * K, K);
                }

                row.CopyTo(x, position * K);
                float[] y = Run(session, x, rows);
                for (int i = 0; i < N; i++)
                {
                    compared++;
                    different += BitConverter.SingleToInt32Bits(y[(position * N) + i]) == BitConverter.SingleToInt32Bits(alone[i]) ? 0 : 1;
                }
            }
        }

        return (compared, different);
    }

    private static InferenceSession Open(byte[] model, BatchInvariantOptions batchInvariant)
    {
        using var options = new SessionOptions();
        return new InferenceSession(model, options.AppendBatchInvariant(batchInvariant));
    }

    private static float[] Run(InferenceSession session, float[] x, int rows)
    {
        using OrtValue input = OrtValue.CreateTensorValueFromMemory(x, [rows, K]);
        using var runOptions = new RunOptions();
        using var outputs = session.Run(runOptions, ["x"], [input], ["y"]);
        return outputs[0].GetTensorDataAsSpan<float>().ToArray();
    }
}
