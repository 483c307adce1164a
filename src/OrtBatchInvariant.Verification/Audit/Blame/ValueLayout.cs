using OrtBatchInvariant.Verification.Device;

namespace OrtBatchInvariant.Verification.Audit.Blame;

/// <summary>What a dimension of a value runs over.</summary>
internal enum DimensionRole
{
    /// <summary>Neither rows nor tokens.</summary>
    Other,

    /// <summary>Rows; here as below there may be several entries for each.</summary>
    Row,

    /// <summary>The tokens of a run.</summary>
    Token,

    /// <summary>Rows and the tokens of each, in one dimension.</summary>
    RowAndToken,

    /// <summary>Places of the KV cache.</summary>
    Key,
}

/// <summary>
/// Where in a value the numbers of one token of one row lie. Found by running a graph with other numbers of rows and tokens and looking
/// which dimensions follow, so that it holds for graphs that say nothing of their shapes.
/// </summary>
internal sealed class ValueLayout
{
    // Two dimensions have to follow different numbers to be told apart.
    public const int Rows = 2;
    public const int MoreRows = 3;
    public const int Tokens = 3;
    public const int MoreTokens = 4;

    private readonly DimensionRole[] _roles;

    private ValueLayout(DimensionRole[] roles) => _roles = roles;

    /// <summary>Whether each token of a row has numbers of its own here.</summary>
    public bool IsPerToken => HasRows && _roles.Any(role => role is DimensionRole.Token or DimensionRole.RowAndToken or DimensionRole.Key);

    /// <summary>Whether the numbers of a token are those of its key, which later runs see again.</summary>
    public bool IsPerKey => HasRows && _roles.Contains(DimensionRole.Key) && !_roles.Contains(DimensionRole.Token);

    private bool HasRows => _roles.Any(role => role is DimensionRole.Row or DimensionRole.RowAndToken);

    /// <summary>The layout of a KV cache.</summary>
    public static ValueLayout Cache { get; } = new([DimensionRole.Row, DimensionRole.Other, DimensionRole.Key, DimensionRole.Other]);

    /// <summary>Derives the layout from the shapes of five runs; null if they do not fit any.</summary>
    /// <param name="first"><see cref="Rows"/> rows of <see cref="Tokens"/> tokens.</param>
    /// <param name="moreRows">As <paramref name="first"/>, but <see cref="MoreRows"/>.</param>
    /// <param name="moreTokens">As <paramref name="first"/>, but <see cref="MoreTokens"/>.</param>
    /// <param name="step">One token after <paramref name="first"/>.</param>
    /// <param name="laterStep">One token after <paramref name="moreTokens"/>.</param>
    /// <param name="hasCache">Whether a step takes its token alone. Otherwise it takes the text so far, and of two dimensions that follow the
    /// tokens the second is taken for that of the keys.</param>
    public static ValueLayout? From(long[] first, long[] moreRows, long[] moreTokens, long[] step, long[] laterStep, bool hasCache = true)
    {
        if (((long[][])[moreRows, moreTokens, step, laterStep]).Any(shape => shape.Length != first.Length))
        {
            return null;
        }

        var roles = new DimensionRole[first.Length];
        for (int i = 0; i < roles.Length; i++)
        {
            bool followsRows = first[i] != moreRows[i];
            bool followsTokens = first[i] != moreTokens[i];
            if (followsRows && followsTokens)
            {
                if (first[i] * MoreRows != moreRows[i] * Rows || first[i] * MoreTokens != moreTokens[i] * Tokens)
                {
                    return null;
                }

                roles[i] = DimensionRole.RowAndToken;
            }
            else if (followsRows)
            {
                if (first[i] * MoreRows != moreRows[i] * Rows)
                {
                    return null;
                }

                roles[i] = DimensionRole.Row;
            }
            else if (followsTokens)
            {
                if (first[i] * MoreTokens != moreTokens[i] * Tokens)
                {
                    return null;
                }

                bool isToken = hasCache ? step[i] == laterStep[i] : !roles.Contains(DimensionRole.Token);
                roles[i] = isToken ? DimensionRole.Token : DimensionRole.Key;
            }
        }

        return roles.Count(role => role is DimensionRole.Row or DimensionRole.RowAndToken) > 1 ? null : new ValueLayout(roles);
    }

    /// <summary>Copies the numbers of a token out of a value.</summary>
    /// <param name="tensor">The value, of a run.</param>
    /// <param name="place">The token.</param>
    public byte[] Read(HostTensor tensor, TokenPlace place)
    {
        using var bytes = new MemoryStream();
        Visit(tensor, place, (offset, length) => bytes.Write(tensor.Bytes, offset, length));
        return bytes.ToArray();
    }

    /// <summary>Puts the numbers of a token into a value.</summary>
    public void Write(HostTensor tensor, TokenPlace place, byte[] numbers)
    {
        int done = 0;
        Visit(tensor, place, (offset, length) =>
        {
            numbers.AsSpan(done, length).CopyTo(tensor.Bytes.AsSpan(offset, length));
            done += length;
        });
    }

    private void Visit(HostTensor tensor, TokenPlace place, Action<int, int> visit)
    {
        long[] shape = tensor.Shape;
        IReadOnlyList<int>[] indices = [.. _roles.Select((role, i) => Indices(role, (int)shape[i], place))];

        // Whole inner dimensions are copied at once.
        int inner = shape.Length;
        int run = tensor.ElementBytes;
        while (inner > 0 && _roles[inner - 1] == DimensionRole.Other)
        {
            inner--;
            run *= (int)shape[inner];
        }

        if (run > 0)
        {
            Walk(0, 0);
        }

        void Walk(int dimension, long start)
        {
            if (dimension == inner)
            {
                visit(checked((int)(start * run)), run);
                return;
            }

            foreach (int index in indices[dimension])
            {
                Walk(dimension + 1, (start * shape[dimension]) + index);
            }
        }
    }

    private static IReadOnlyList<int> Part(int size, int index, int count) => [.. Enumerable.Range(index * (size / count), size / count)];

    private IReadOnlyList<int> Indices(DimensionRole role, int size, TokenPlace place) => role switch
    {
        DimensionRole.Row => Part(size, place.Row, place.Rows),
        DimensionRole.Token => Part(size, place.Token, place.Tokens),
        DimensionRole.RowAndToken => Part(size, (place.Row * place.Tokens) + place.Token, place.Rows * place.Tokens),
        DimensionRole.Key => _roles.Contains(DimensionRole.Token) ? place.Slots : [place.Slots[^1]],
        _ => [.. Enumerable.Range(0, size)],
    };
}

/// <summary>A token in a run.</summary>
/// <param name="Row">Its row.</param>
/// <param name="Rows">Number of rows.</param>
/// <param name="Token">Its place among the tokens of the run.</param>
/// <param name="Tokens">Tokens of the run.</param>
/// <param name="Slots">Where the row's tokens up to this one are in the KV cache.</param>
internal sealed record TokenPlace(int Row, int Rows, int Token, int Tokens, IReadOnlyList<int> Slots);
