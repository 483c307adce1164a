using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>
/// Registers weights as initializers and says how to write them: piece by piece, all cores converting, never a whole
/// matrix in memory.
/// </summary>
internal sealed class WeightWriter(OnnxGraphBuilder builder, DataType floatType)
{
    private const int PieceBytes = 1 << 25;

    /// <summary>A vector in the graph's float type, or in the one that is given.</summary>
    public string Vector(string name, float[] values, DataType? type = null) => Table(name, values, type ?? floatType, values.Length);

    /// <summary>A small table in the graph's float type, given whole.</summary>
    public string Table(string name, float[] values, params ReadOnlySpan<long> dims) => Table(name, values, floatType, dims);

    private string Table(string name, float[] values, DataType type, params ReadOnlySpan<long> dims)
    {
        var tensor = builder.Initializer(name, type, dims);
        Pending([tensor], (data, _) =>
        {
            var bytes = new byte[values.Length * FloatEncoding.Size(type)];
            FloatEncoding.Encode(values, type, bytes, name);
            data.Append(tensor, stream => stream.Write(bytes));
        });
        return name;
    }

    /// <summary>A matrix as it is, [N, K], in the graph's float type.</summary>
    public string RowMajor(string name, MatrixSource matrix)
    {
        var tensor = builder.Initializer(name, floatType, matrix.Rows, matrix.Columns);
        Pending([tensor], (data, cancel) => data.Append(tensor, stream => WriteRowMajor(stream, matrix, cancel)));
        return name;
    }

    /// <summary>A matrix transposed, [K, N], as the right operand of MatMul, in the graph's float type.</summary>
    public string Transposed(string name, MatrixSource matrix)
    {
        var tensor = builder.Initializer(name, floatType, matrix.Columns, matrix.Rows);
        Pending([tensor], (data, cancel) => data.Append(tensor, stream => WriteTransposed(stream, matrix, cancel)));
        return name;
    }

    /// <summary>A matrix quantised for MatMulNBits.</summary>
    /// <returns>Names of values [N, blocks, bytes], scales [N, blocks] and, if asymmetric, zero points [N, bytes].</returns>
    public IReadOnlyList<string> Quantized(string name, MatrixSource matrix, BlockQuantizer quantizer)
    {
        var blocks = quantizer.BlockCount(matrix.Columns);
        List<TensorProto> tensors =
        [
            builder.Initializer($"{name}_Q{quantizer.Bits}", DataType.Uint8, matrix.Rows, blocks, quantizer.BlobBytes),
            builder.Initializer($"{name}_scales", floatType, matrix.Rows, blocks),
        ];
        if (!quantizer.IsSymmetric)
        {
            tensors.Add(builder.Initializer(
                $"{name}_zero_points", DataType.Uint8, matrix.Rows, quantizer.ZeroPointBytes(matrix.Columns)));
        }

        Pending(tensors, (data, cancel) => WriteQuantized(data, tensors, matrix, quantizer, cancel));
        return [.. tensors.Select(tensor => tensor.Name)];
    }

    private void Pending(IReadOnlyList<TensorProto> tensors, Action<ExternalDataWriter, CancellationToken> write) =>
        builder.Weights.Add(new PendingTensor(tensors, write));

    private void WriteRowMajor(Stream stream, MatrixSource matrix, CancellationToken cancel)
    {
        var rowBytes = matrix.Columns * FloatEncoding.Size(floatType);
        InPieces(matrix.Rows, rowBytes, cancel, (firstRow, rows) =>
        {
            var piece = new byte[rows * rowBytes];
            ForEachRow(rows, matrix.Columns, cancel, (row, values) =>
            {
                matrix.Read(firstRow + row, 0, values);
                FloatEncoding.Encode(values, floatType, piece.AsSpan(row * rowBytes, rowBytes), matrix.Name);
            });
            stream.Write(piece);
        });
    }

    private void WriteTransposed(Stream stream, MatrixSource matrix, CancellationToken cancel)
    {
        var size = FloatEncoding.Size(floatType);
        InPieces(matrix.Columns, matrix.Rows * sizeof(float), cancel, (firstColumn, columns) =>
        {
            var transposed = new float[columns * matrix.Rows];
            ForEachRow(matrix.Rows, columns, cancel, (row, values) =>
            {
                matrix.Read(row, firstColumn, values);
                for (var column = 0; column < columns; column++)
                {
                    transposed[(column * matrix.Rows) + row] = values[column];
                }
            });
            var piece = new byte[transposed.Length * size];
            FloatEncoding.Encode(transposed, floatType, piece, matrix.Name);
            stream.Write(piece);
        });
    }

    private void WriteQuantized(
        ExternalDataWriter data, List<TensorProto> tensors, MatrixSource matrix, BlockQuantizer quantizer, CancellationToken cancel)
    {
        var blocks = quantizer.BlockCount(matrix.Columns);
        var rowBytes = blocks * quantizer.BlobBytes;
        var zeroBytes = quantizer.IsSymmetric ? 0 : quantizer.ZeroPointBytes(matrix.Columns);
        var scaleBytes = blocks * FloatEncoding.Size(floatType);

        // Scales and zero points are small, and come after the values in the file.
        var scales = new MemoryStream();
        var zeroPoints = new MemoryStream();
        data.Append(tensors[0], stream => InPieces(matrix.Rows, rowBytes, cancel, (firstRow, rows) =>
        {
            var packed = new byte[rows * rowBytes];
            var pieceScales = new byte[rows * scaleBytes];
            var pieceZeros = new byte[rows * zeroBytes];
            ForEachRow(rows, matrix.Columns, cancel, (row, values) =>
            {
                var rowScales = new float[blocks];
                matrix.Read(firstRow + row, 0, values);
                quantizer.QuantizeRow(
                    values, packed.AsSpan(row * rowBytes, rowBytes), rowScales, pieceZeros.AsSpan(row * zeroBytes, zeroBytes), matrix.Name);
                FloatEncoding.Encode(rowScales, floatType, pieceScales.AsSpan(row * scaleBytes, scaleBytes), matrix.Name);
            });
            stream.Write(packed);
            scales.Write(pieceScales);
            zeroPoints.Write(pieceZeros);
        }));
        data.Append(tensors[1], stream => scales.WriteTo(stream));
        if (!quantizer.IsSymmetric)
        {
            data.Append(tensors[2], stream => zeroPoints.WriteTo(stream));
        }
    }

    /// <summary>Splits rows into pieces of about <see cref="PieceBytes"/>, one after the other.</summary>
    private static void InPieces(int rows, int rowBytes, CancellationToken cancel, Action<int, int> write)
    {
        var rowsPerPiece = Math.Clamp(PieceBytes / rowBytes, 1, rows);
        for (var first = 0; first < rows; first += rowsPerPiece)
        {
            cancel.ThrowIfCancellationRequested();
            write(first, Math.Min(rowsPerPiece, rows - first));
        }
    }

    private delegate void RowAction(int row, Span<float> values);

    /// <summary>Runs rows on all cores, each with a buffer for its values.</summary>
    private static void ForEachRow(int rows, int columns, CancellationToken cancel, RowAction action)
    {
        try
        {
            Parallel.For(
                0,
                rows,
                new ParallelOptions { CancellationToken = cancel },
                () => new float[columns],
                (row, _, buffer) =>
                {
                    action(row, buffer);
                    return buffer;
                },
                _ => { });
        }
        catch (AggregateException e) when (e.InnerExceptions.OfType<ModelException>().FirstOrDefault() is { } error)
        {
            throw error;
        }
    }
}
