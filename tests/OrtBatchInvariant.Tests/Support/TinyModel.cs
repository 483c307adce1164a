using System.Runtime.InteropServices;
using Google.Protobuf;
using OrtBatchInvariant.Models.Onnx;

namespace OrtBatchInvariant.Tests.Support;

/// <summary>ONNX models of one or two nodes: input <c>x</c> [rows, K] float, output <c>y</c>.</summary>
internal static class TinyModel
{
    /// <summary>y [rows, N] = x [rows, K] times a random int4 matrix in blocks of 32, node <c>quantised</c>.</summary>
    internal static byte[] MatMulNBits(int k, int n, int accuracyLevel, Random random)
    {
        const int BlockSize = 32;
        int blocks = k / BlockSize;
        byte[] packed = new byte[n * blocks * BlockSize / 2];
        random.NextBytes(packed);
        float[] scales = Values(n * blocks, random);

        var node = new NodeProto { Name = "quantised", OpType = "MatMulNBits", Domain = "com.microsoft" };
        node.Input.AddRange(["x", "packed", "scales"]);
        node.Output.Add("y");
        node.Attribute.AddRange(
        [
            Attribute("K", k), Attribute("N", n), Attribute("bits", 4), Attribute("block_size", BlockSize), Attribute("accuracy_level", accuracyLevel),
        ]);
        return Serialize(
            k,
            [node],
            [
                Tensor("packed", TensorProto.Types.DataType.Uint8, [n, blocks, BlockSize / 2], packed),
                Tensor("scales", TensorProto.Types.DataType.Float, [n * blocks], MemoryMarshal.AsBytes(scales.AsSpan())),
            ]);
    }

    /// <summary>y [rows, N] = relu(x [rows, K] times a random matrix), nodes <c>product</c> and <c>activation</c>.</summary>
    internal static byte[] MatMulRelu(int k, int n, Random random)
    {
        var product = new NodeProto { Name = "product", OpType = "MatMul" };
        product.Input.AddRange(["x", "weights"]);
        product.Output.Add("product");
        var activation = new NodeProto { Name = "activation", OpType = "Relu" };
        activation.Input.Add("product");
        activation.Output.Add("y");
        return Serialize(
            k,
            [product, activation],
            [Tensor("weights", TensorProto.Types.DataType.Float, [k, n], MemoryMarshal.AsBytes(Values(k * n, random).AsSpan()))]);
    }

    /// <summary>y [rows] = sums of x [rows, K], by an op that is on no list of invariant ones, in <paramref name="count"/> nodes.</summary>
    internal static byte[] Einsum(int k, int count = 1)
    {
        var nodes = new List<NodeProto>();
        for (int i = 0; i < count; i++)
        {
            var node = new NodeProto { Name = $"einsum_{i}", OpType = "Einsum" };
            node.Input.Add(i == 0 ? "x" : $"y_{i - 1}");
            node.Output.Add(i == count - 1 ? "y" : $"y_{i}");
            node.Attribute.Add(AttributeProto.Of("equation", i == count - 1 ? "ij->i" : "ij->ji"));
            nodes.Add(node);
        }

        return Serialize(k, nodes, []);
    }

    internal static float[] Values(int count, Random random)
    {
        float[] values = new float[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = (float)((random.NextDouble() * 2) - 1);
        }

        return values;
    }

    private static byte[] Serialize(int k, IEnumerable<NodeProto> nodes, IEnumerable<TensorProto> initializers)
    {
        var graph = new GraphProto { Name = "tiny" };
        graph.Node.AddRange(nodes);
        graph.Initializer.AddRange(initializers);
        graph.Input.Add(FloatValue("x", new() { DimParam = "rows" }, new() { DimValue = k }));
        graph.Output.Add(new ValueInfoProto
        {
            Name = "y",
            Type = new TypeProto { TensorType = new() { ElemType = (int)TensorProto.Types.DataType.Float } },
        });
        var model = new ModelProto { IrVersion = 10, Graph = graph };
        model.OpsetImport.Add(new OperatorSetIdProto { Version = 21 });
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "com.microsoft", Version = 1 });
        return model.ToByteArray();
    }

    private static ValueInfoProto FloatValue(string name, params TensorShapeProto.Types.Dimension[] dimensions)
    {
        var shape = new TensorShapeProto();
        shape.Dim.AddRange(dimensions);
        return new ValueInfoProto
        {
            Name = name,
            Type = new TypeProto { TensorType = new() { ElemType = (int)TensorProto.Types.DataType.Float, Shape = shape } },
        };
    }

    private static AttributeProto Attribute(string name, long value) =>
        new() { Name = name, Type = AttributeProto.Types.AttributeType.Int, I = value };

    private static TensorProto Tensor(string name, TensorProto.Types.DataType type, long[] dimensions, ReadOnlySpan<byte> data)
    {
        var tensor = new TensorProto { Name = name, DataType = (int)type, RawData = ByteString.CopyFrom(data) };
        tensor.Dims.AddRange(dimensions);
        return tensor;
    }
}
