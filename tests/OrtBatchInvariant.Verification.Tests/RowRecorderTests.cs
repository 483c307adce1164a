using OrtBatchInvariant.Verification.Completions;

namespace OrtBatchInvariant.Verification.Tests;

/// <summary>What a digest is made of, and what is refused because a comparison of it would prove nothing.</summary>
public sealed class RowRecorderTests
{
    private const int Eos = 2;

    [Fact]
    public void OneBitChangesTheDigest()
    {
        float[] logits = [1f, 3f, 2f];
        Assert.Equal(Record(logits), Record(logits));
        Assert.NotEqual(Record(logits), Record([1f, 3f, MathF.BitIncrement(2f)]));
        Assert.NotEqual(Record([0f, 3f, 2f]), Record([-0f, 3f, 2f]));
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void LogitsThatAreNotFiniteAreRefused(float value) =>
        Assert.Throws<VerificationException>(() => Record([1f, value, 2f]));

    [Fact]
    public void LogitsThatAreAllEqualAreRefused() => Assert.Throws<VerificationException>(() => Record([0f, 0f, 0f]));

    [Fact]
    public void EqualLogitsAreResolvedToTheLowestToken()
    {
        using var recorder = new RowRecorder(0, [Eos], newTokens: 1);
        recorder.Add([1f, 3f, 3f], token: null);
        Assert.Equal([1], recorder.Finish("").Tokens);
    }

    [Fact]
    public void EndsAtTheEndTokenOrAtTheLength()
    {
        using var recorder = new RowRecorder(0, [Eos], newTokens: 2);
        recorder.Add([1f, 3f, 2f], token: 1);
        Assert.False(recorder.IsDone);
        recorder.Add([1f, 3f, 2f], token: 1);
        Assert.True(recorder.IsDone);

        using var ended = new RowRecorder(0, [Eos], newTokens: 2);
        ended.Add([1f, 3f, 4f], token: Eos);
        Assert.True(ended.IsDone);
    }

    private static string Record(float[] logits)
    {
        using var recorder = new RowRecorder(0, [Eos], newTokens: 1);
        recorder.Add(logits, token: 1);
        Completion completion = recorder.Finish("");
        Assert.Equal(logits.Length, completion.LogitsCount);
        return completion.LogitsDigest;
    }
}
