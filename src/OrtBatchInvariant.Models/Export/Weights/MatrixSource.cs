namespace OrtBatchInvariant.Models.Export.Weights;

/// <summary>
/// A weight matrix [N, K] (out features, in features) in fp32 that is read piece by piece, so that it never has to be in
/// memory whole. Reads may come from several threads.
/// </summary>
internal abstract class MatrixSource(string name, int rows, int columns)
{
    /// <summary>Name in the checkpoint, for errors.</summary>
    public string Name { get; } = name;

    /// <summary>N.</summary>
    public int Rows { get; } = rows;

    /// <summary>K.</summary>
    public int Columns { get; } = columns;

    /// <summary>Reads part of a row.</summary>
    public abstract void Read(int row, int firstColumn, Span<float> destination);
}

/// <summary>Matrices of equal width stacked along their rows, such as q, k and v projections.</summary>
internal sealed class StackedMatrix : MatrixSource
{
    private readonly MatrixSource[] _parts;

    public StackedMatrix(params MatrixSource[] parts)
        : base(string.Join(" + ", parts.Select(part => part.Name)), parts.Sum(part => part.Rows), parts[0].Columns)
    {
        _parts = parts;
    }

    public override void Read(int row, int firstColumn, Span<float> destination)
    {
        foreach (var part in _parts)
        {
            if (row < part.Rows)
            {
                part.Read(row, firstColumn, destination);
                return;
            }

            row -= part.Rows;
        }

        throw new ArgumentOutOfRangeException(nameof(row));
    }
}

/// <summary>Consecutive rows of a matrix, such as one of two projections that a checkpoint holds as one.</summary>
internal sealed class RowsOfMatrix(MatrixSource matrix, int firstRow, int rows)
    : MatrixSource(matrix.Name, rows, matrix.Columns)
{
    public override void Read(int row, int firstColumn, Span<float> destination) => matrix.Read(firstRow + row, firstColumn, destination);
}
