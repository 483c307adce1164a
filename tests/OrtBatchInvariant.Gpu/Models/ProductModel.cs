using System.Globalization;
using System.Runtime.InteropServices;
using Google.Protobuf;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Gpu.Models;

/// <summary>
/// Several products of one input with random weights of one shape. All weights are the same bytes of the file; on the device each
/// product has a copy of its own, so that the weights of a run are read from memory and not from a cache.
/// </summary>
internal static class ProductModel
{
    /// <summary>Weights that share a scale.</summary>
    internal const int BlockSize = 32;
    private const double BytesARun = 800e6;

    /// <summary>Bytes of the weights of one product.</summary>
    public static double WeightBytes(string dtype, long k, long n) => (double)k * n * (dtype == "int4" ? 0.5 + (2.0 / BlockSize) : 2);

    /// <summary>Products in the model.</summary>
    public static int Copies(string dtype, long k, long n) => (int)Math.Clamp(BytesARun / WeightBytes(dtype, k, n), 1, 64);

    /// <param name="folder">Where to write it, unless it is there.</param>
    /// <param name="dtype">fp16 and bf16: MatMul; int4: MatMulNBits in blocks of 32 on fp16.</param>
    /// <param name="k">Columns of the input.</param>
    /// <param name="n">Columns of each output.</param>
    /// <returns>The model's file.</returns>
    public static string Make(string folder, string dtype, long k, long n)
    {
        string file = Path.Combine(folder, FormattableString.Invariant($"product-{dtype}-{k}-{n}.onnx"));
        if (File.Exists(file))
        {
            return file;
        }

        Directory.CreateDirectory(folder);
        string data = Path.ChangeExtension(file, ".data");
        DataType type = dtype == "bf16" ? DataType.Bfloat16 : DataType.Float16;
        List<TensorProto> weights;
        using (FileStream stream = File.Create(data))
        {
            weights = dtype == "int4"
                ? [Codes(stream, Path.GetFileName(data), "B", [n, k / BlockSize, BlockSize / 2]), Numbers(stream, Path.GetFileName(data), "scales", type, [n * k / BlockSize], 0.001f, 0.01f)]
                : [Numbers(stream, Path.GetFileName(data), "B", type, [k, n], -0.05f, 0.05f)];
        }

        var graph = new GraphProto { Name = "products" };
        graph.Input.Add(Value("A", type, k));
        for (int i = 0; i < Copies(dtype, k, n); i++)
        {
            NodeProto node = dtype == "int4" ? new NodeProto { OpType = "MatMulNBits", Domain = "com.microsoft" } : new NodeProto { OpType = "MatMul" };
            node.Name = FormattableString.Invariant($"product{i}");
            node.Input.Add("A");
            foreach (TensorProto weight in weights)
            {
                TensorProto copy = weight.Clone();
                copy.Name = FormattableString.Invariant($"{weight.Name}{i}");
                node.Input.Add(copy.Name);
                graph.Initializer.Add(copy);
            }

            if (dtype == "int4")
            {
                foreach ((string name, long value) in (ReadOnlySpan<(string, long)>)[("K", k), ("N", n), ("bits", 4), ("block_size", BlockSize)])
                {
                    node.Attribute.Add(AttributeProto.Of(name, value));
                }
            }

            node.Output.Add(FormattableString.Invariant($"Y{i}"));
            graph.Node.Add(node);
            graph.Output.Add(Value(node.Output[0], type, n));
        }

        var model = new ModelProto { IrVersion = 10, Graph = graph, ProducerName = "ort-batch-invariant" };
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = 21 });
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "com.microsoft", Version = 1 });
        File.WriteAllBytes(file, model.ToByteArray());
        return file;
    }

    internal static TensorProto Codes(FileStream stream, string location, string name, long[] dims)
    {
        byte[] chunk = new byte[1 << 22];
        new Random(9).NextBytes(chunk);
        return Append(stream, location, name, DataType.Uint8, dims, dims.Aggregate(1L, (product, size) => product * size), chunk);
    }

    internal static TensorProto Numbers(FileStream stream, string location, string name, DataType type, long[] dims, float low, float high)
    {
        var random = new Random(10);
        ushort[] chunk = new ushort[1 << 21];
        foreach (ref ushort element in chunk.AsSpan())
        {
            float value = low + ((high - low) * random.NextSingle());
            element = type == DataType.Bfloat16 ? (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16) : BitConverter.HalfToUInt16Bits((Half)value);
        }

        return Append(stream, location, name, type, dims, dims.Aggregate(2L, (product, size) => product * size), MemoryMarshal.AsBytes(chunk.AsSpan()));
    }

    internal static ValueInfoProto Value(string name, DataType type, long width)
    {
        var shape = new TensorShapeProto();
        shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimParam = "rows" });
        shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimValue = width });
        return new ValueInfoProto { Name = name, Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)type, Shape = shape } } };
    }

    // The chunk over and over; tensors start at multiples of the page size.
    private static TensorProto Append(FileStream stream, string location, string name, DataType type, long[] dims, long bytes, ReadOnlySpan<byte> chunk)
    {
        const long Alignment = 1 << 16;
        long offset = (stream.Position + Alignment - 1) / Alignment * Alignment;
        stream.Position = offset;
        for (long left = bytes; left > 0; left -= chunk.Length)
        {
            stream.Write(chunk[..(int)Math.Min(left, chunk.Length)]);
        }

        var tensor = new TensorProto { Name = name, DataType = (int)type, DataLocation = TensorProto.Types.DataLocation.External };
        tensor.Dims.AddRange(dims);
        foreach ((string key, string value) in (ReadOnlySpan<(string, string)>)[("location", location), ("offset", Number(offset)), ("length", Number(bytes))])
        {
            tensor.ExternalData.Add(new StringStringEntryProto { Key = key, Value = value });
        }

        return tensor;
    }

    private static string Number(long value) => value.ToString(CultureInfo.InvariantCulture);
}
