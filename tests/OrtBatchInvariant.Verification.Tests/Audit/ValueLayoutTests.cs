using Microsoft.ML.OnnxRuntime.Tensors;
using OrtBatchInvariant.Verification.Audit.Blame;
using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Tests.Audit;

/// <summary>Where a token's numbers lie, from shapes alone.</summary>
public sealed class ValueLayoutTests
{
    // [rows, tokens, 5] in five runs: 2 rows of 3, 3 of 3, 2 of 4, one token after 3, one after 4.
    [Fact]
    public void HiddenStates() =>
        AssertReads([2, 3, 5], ValueLayout.From([2, 3, 5], [3, 3, 5], [2, 4, 5], [2, 1, 5], [2, 1, 5]), new TokenPlace(1, 2, 2, 3, [0, 1, 2]), 25, 26, 27, 28, 29);

    [Fact]
    public void HeadsThatWereTakenApart() =>
        AssertReads([2, 6, 2], ValueLayout.From([2, 6, 2], [3, 6, 2], [2, 8, 2], [2, 2, 2], [2, 2, 2]), new TokenPlace(1, 2, 1, 3, [0, 1]), 16, 17, 18, 19);

    [Fact]
    public void RowsAndTokensInOneDimension() =>
        AssertReads([6, 2], ValueLayout.From([6, 2], [9, 2], [8, 2], [2, 2], [2, 2]), new TokenPlace(1, 2, 0, 3, [0]), 6, 7);

    [Fact]
    public void ScoresTakeTheKeysUpToTheToken() =>
        AssertReads([2, 1, 3, 3], ValueLayout.From([2, 1, 3, 3], [3, 1, 3, 3], [2, 1, 4, 4], [2, 1, 1, 4], [2, 1, 1, 5]), new TokenPlace(0, 2, 1, 3, [0, 1]), 3, 4);

    [Fact]
    public void KeysTakeTheOneOfTheToken() =>
        AssertReads([2, 1, 3, 2], ValueLayout.From([2, 1, 3, 2], [3, 1, 3, 2], [2, 1, 4, 2], [2, 1, 4, 2], [2, 1, 5, 2]), new TokenPlace(1, 2, 2, 3, [0, 1, 2]), 10, 11);

    [Fact]
    public void WhatFollowsNeitherRowsNorTokensIsNotPerToken()
    {
        Assert.False(ValueLayout.From([4, 4], [4, 4], [4, 4], [4, 4], [4, 4])!.IsPerToken);
        Assert.False(ValueLayout.From([2], [3], [2], [2], [2])!.IsPerToken);
        Assert.Null(ValueLayout.From([2, 3], [3, 3, 1], [2, 4], [2, 1], [2, 1]));
        Assert.Null(ValueLayout.From([2, 2], [3, 3], [2, 2], [2, 2], [2, 2]));
    }

    // Numbers count from 0, so that a number is its own place.
    private static void AssertReads(long[] shape, ValueLayout? layout, TokenPlace place, params byte[] expected)
    {
        Assert.True(layout!.IsPerToken);
        var tensor = new HostTensor(TensorElementType.UInt8, shape, [.. Enumerable.Range(0, (int)shape.Aggregate((product, size) => product * size)).Select(i => (byte)i)]);
        byte[] numbers = layout.Read(tensor, place);
        Assert.Equal(expected, numbers);

        HostTensor target = tensor with { Bytes = new byte[tensor.Bytes.Length] };
        layout.Write(target, place, numbers);
        Assert.Equal(tensor.Bytes.Select((value, i) => expected.Contains((byte)i) ? value : (byte)0), target.Bytes);
    }
}
