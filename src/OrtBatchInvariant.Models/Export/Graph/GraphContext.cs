using OrtBatchInvariant.Models.Export.Weights;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Export.Graph;

/// <summary>What all parts of a decoder's graph are built from.</summary>
internal sealed class GraphContext
{
    public const string Onnx = "";
    public const string Microsoft = "com.microsoft";

    public GraphContext(HfConfig config, ExportOptions options, IWeightSource weights)
    {
        Config = config;
        Options = options;
        Weights = weights;
        FloatType = options.ActivationType;
        ResidualType = config.Family.KeepsResidualInFp32 ? DataType.Float : FloatType;
        Writer = new WeightWriter(Builder, FloatType);
        Quantizer = options.WeightBits == 0
            ? null
            : new BlockQuantizer(options.WeightBits, options.BlockSize, options.IsSymmetric, FloatType);
    }

    public HfConfig Config { get; }

    public ModelFamily Family => Config.Family;

    public ExportOptions Options { get; }

    public IWeightSource Weights { get; }

    public OnnxGraphBuilder Builder { get; } = new();

    public WeightWriter Writer { get; }

    /// <summary>Null if weights are not quantised.</summary>
    public BlockQuantizer? Quantizer { get; }

    /// <summary>Type of activations and of weights that are not quantised.</summary>
    public DataType FloatType { get; }

    /// <summary>Type of the residual stream and of what norms compute in.</summary>
    public DataType ResidualType { get; }

    /// <summary>Shape of an activation.</summary>
    public static Dim[] Hidden(Dim width) => ["batch_size", "sequence_length", width];

    /// <summary>A norm's weight with the family's offset.</summary>
    public float[] NormWeight(string name, int length)
    {
        var weight = Weights.Vector(name, length);
        if (Family.NormWeightOffset != 0)
        {
            for (var i = 0; i < weight.Length; i++)
            {
                weight[i] += Family.NormWeightOffset;
            }
        }

        return weight;
    }

    /// <summary>Adds a Cast unless the value is of that type already.</summary>
    public string Cast(string name, string input, DataType from, DataType to, Dim[] shape) => from == to
        ? input
        : Builder.Node(name, "Cast", Onnx, [input], to, shape, AttributeProto.Of("to", (long)to));
}
