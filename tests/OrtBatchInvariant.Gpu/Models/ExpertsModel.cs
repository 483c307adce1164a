using Google.Protobuf;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Gpu.Models;

/// <summary>
/// Mixtures of experts of one input with random weights of one shape, each behind a router of its own; on the device each has weights of its
/// own, as in <see cref="ProductModel"/>.
/// </summary>
/// <param name="Hidden">Columns of the input and of each output.</param>
/// <param name="Inter">Columns between the layers; the first one gives twice as many, for swiglu.</param>
/// <param name="Experts">Experts of a mixture.</param>
/// <param name="K">Experts of a token.</param>
internal sealed record ExpertsModel(int Hidden, int Inter, int Experts, int K)
{
    private const double BytesARun = 800e6;

    /// <summary>Bytes of the weights of one expert.</summary>
    public double ExpertBytes(string dtype) => ProductModel.WeightBytes(dtype, Hidden, 3L * Inter);

    /// <summary>Experts that some of so many tokens choose, where each chooses at random.</summary>
    public double UsedExperts(int rows) => Experts * (1 - Math.Pow(1 - ((double)K / Experts), rows));

    /// <summary>Mixtures in the model.</summary>
    public int Copies(string dtype) => (int)Math.Clamp(BytesARun / (ExpertBytes(dtype) * Experts), 1, 16);

    /// <summary>Writes the model, unless it is there.</summary>
    /// <param name="folder">Where to.</param>
    /// <param name="dtype">fp16 and bf16: MoE; int4: QMoE in blocks of 32 on fp16.</param>
    /// <returns>The model's file.</returns>
    public string Make(string folder, string dtype)
    {
        string file = Path.Combine(folder, FormattableString.Invariant($"experts-{dtype}-{Hidden}-{Inter}-{Experts}-{K}.onnx"));
        if (File.Exists(file))
        {
            return file;
        }

        Directory.CreateDirectory(folder);
        string location = Path.GetFileName(Path.ChangeExtension(file, ".data"));
        DataType type = dtype == "bf16" ? DataType.Bfloat16 : DataType.Float16;
        bool isQuantized = dtype == "int4";
        TensorProto router;
        List<TensorProto> weights = [];
        using (FileStream stream = File.Create(Path.Combine(folder, location)))
        {
            router = ProductModel.Numbers(stream, location, "router", type, [Hidden, Experts], -1, 1);
            foreach ((string name, long n, long k) in (ReadOnlySpan<(string, long, long)>)[("fc1", 2L * Inter, Hidden), ("fc2", Hidden, Inter)])
            {
                if (isQuantized)
                {
                    weights.Add(ProductModel.Codes(stream, location, name, [Experts, n, k / 2]));
                    weights.Add(ProductModel.Numbers(stream, location, name + "_scales", type, [Experts, n, k / ProductModel.BlockSize], 0.001f, 0.01f));
                }
                else
                {
                    weights.Add(ProductModel.Numbers(stream, location, name, type, [Experts, n, k], -0.05f, 0.05f));
                }
            }
        }

        var graph = new GraphProto { Name = "experts" };
        graph.Input.Add(ProductModel.Value("A", type, Hidden));
        for (int i = 0; i < Copies(dtype); i++)
        {
            string Copy(TensorProto tensor)
            {
                TensorProto copy = tensor.Clone();
                copy.Name = FormattableString.Invariant($"{tensor.Name}{i}");
                graph.Initializer.Add(copy);
                return copy.Name;
            }

            string scores = FormattableString.Invariant($"scores{i}"), y = FormattableString.Invariant($"Y{i}");
            graph.Node.Add(new NodeProto { Name = FormattableString.Invariant($"router{i}"), OpType = "MatMul", Input = { "A", Copy(router) }, Output = { scores } });
            string[] names = [.. weights.Select(Copy)];
            var node = new NodeProto { Name = FormattableString.Invariant($"experts{i}"), OpType = isQuantized ? "QMoE" : "MoE", Domain = "com.microsoft", Output = { y } };
            node.Input.AddRange(isQuantized ? ["A", scores, names[0], names[1], "", names[2], names[3]] : ["A", scores, names[0], "", names[1]]);
            AddAttributes(node, isQuantized);
            graph.Node.Add(node);
            graph.Output.Add(ProductModel.Value(y, type, Hidden));
        }

        var model = new ModelProto { IrVersion = 10, Graph = graph, ProducerName = "ort-batch-invariant" };
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = 21 });
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "com.microsoft", Version = 1 });
        File.WriteAllBytes(file, model.ToByteArray());
        return file;
    }

    private void AddAttributes(NodeProto node, bool isQuantized)
    {
        void Number(string name, long value) => node.Attribute.Add(new AttributeProto { Name = name, Type = AttributeProto.Types.AttributeType.Int, I = value });
        Number("k", K);
        Number("swiglu_fusion", 1);
        Number("normalize_routing_weights", 1);
        node.Attribute.Add(new AttributeProto { Name = "activation_type", Type = AttributeProto.Types.AttributeType.String, S = ByteString.CopyFromUtf8("swiglu") });
        if (isQuantized)
        {
            Number("expert_weight_bits", 4);
            Number("block_size", ProductModel.BlockSize);
        }
    }
}
