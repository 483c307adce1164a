using Microsoft.ML.OnnxRuntime;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>What sessions have in common, whatever the op.</summary>
public sealed class SessionTests(ITestOutputHelper output)
{
    private const int Calls = 24;

    /// <summary>Two sessions with other thread counts, several callers at once, other batch sizes beside each other.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(4)]
    public async Task TwoSessionsAndManyThreadsGiveTheSameBytes(int accuracyLevel)
    {
        OpCase op = MatMulNBitsTests.Case(320, 200, 4, accuracyLevel, MatMulNBitsTests.Zeros.Packed, true, 32);
        Random random = Checks.Seeded(output);
        Tensor[] values = op.Values(random, 33);
        byte[] model = op.Model(values);
        using InferenceSession one = Sessions.Ours(model, out _, configure: options => options.IntraOpNumThreads = 1);
        using InferenceSession three = Sessions.Ours(model, out _, configure: options => options.IntraOpNumThreads = 3);
        Tensor[] expected = Checks.Run(one, op.Feeds(values), op.OutputNames);

        Comparison[] comparisons = await Task.WhenAll(Enumerable.Range(0, Calls).Select(call => Task.Run(() =>
        {
            int first = call % 16;
            int rows = 1 + (call % 17);
            Tensor[] part = [values[0].Slice(0, first, rows), .. values[1..]];
            Tensor[] actual = Sessions.Run(call % 2 == 0 ? one : three, op.Feeds(part), op.OutputNames);
            return Checks.Same([expected[0].Slice(0, first, rows)], actual);
        })));
        new Comparison(comparisons.Sum(each => each.Compared), comparisons.Sum(each => each.Different)).ExpectNone(output, $"{Calls} concurrent runs");
    }

    [Fact]
    public void EveryInstructionSetGivesTheSameBytesThroughTheOptions()
    {
        OpCase op = MatMulNBitsTests.Case(160, 72, 4, 4, MatMulNBitsTests.Zeros.Packed, true, 32);
        Random random = Checks.Seeded(output);
        Tensor[] values = op.Values(random, 5);
        byte[] model = op.Model(values);
        using InferenceSession best = Sessions.Ours(model);
        using var options = new SessionOptions();
        options.AppendBatchInvariant(new BatchInvariantOptions { InstructionSet = CpuInstructionSet.Scalar });
        using var scalar = new InferenceSession(model, options);
        Assert.Equal("scalar", CoverageReport.ForSession(options).InstructionSet);
        Checks.Same(Sessions.Run(best, op.Feeds(values), op.OutputNames), Sessions.Run(scalar, op.Feeds(values), op.OutputNames))
            .ExpectNone(output, $"{BatchInvariantProvider.InstructionSet} against plain C++");
    }

    internal static void SameBytesWithoutPrepacking(OpCase op, ITestOutputHelper output)
    {
        Random random = Checks.Seeded(output);
        Tensor[] values = op.Values(random, 5);
        byte[] model = op.Model(values);
        using InferenceSession packed = Sessions.Ours(model);
        using InferenceSession plain = Sessions.Ours(model, out _, configure: options => options.AddSessionConfigEntry("session.disable_prepacking", "1"));
        Checks.Same(Sessions.Run(packed, op.Feeds(values), op.OutputNames), Sessions.Run(plain, op.Feeds(values), op.OutputNames))
            .ExpectNone(output, "session.disable_prepacking");
    }
}
