using System.Runtime.InteropServices;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>
/// Reads the weights of an exported graph back under their Hugging Face names, dequantised in float64 straight from the
/// MatMulNBits definition w = (q - zero) * scale.
/// </summary>
internal sealed class ExportedWeights
{
    private readonly OnnxModel _model;
    private readonly TinyModel _shape;
    private readonly Dictionary<string, TensorProto> _tensors;
    private readonly Dictionary<string, double[]> _cache = [];

    public ExportedWeights(string modelPath, TinyModel shape)
    {
        _model = OnnxModel.Load(modelPath);
        _shape = shape;
        _tensors = _model.Proto.Graph.Initializer.ToDictionary(t => t.Name);
    }

    /// <summary>Weights as the graph holds them.</summary>
    public double[] Get(string name)
    {
        if (!_cache.TryGetValue(name, out var values))
        {
            _cache[name] = values = Find(name);
        }

        return values;
    }

    private double[] Find(string name)
    {
        if (name == "model.embed_tokens.weight")
        {
            return _tensors.ContainsKey(name) ? Floats(name) : Matrix("lm_head.MatMul");
        }

        if (name == "lm_head.weight")
        {
            return Matrix("lm_head.MatMul");
        }

        var last = _shape.Layers;
        if (name == "model.norm.weight")
        {
            return Norm($"model.layers.{last}.final_norm_layernorm.weight");
        }

        var local = name.Replace(".self_attn.", ".attn.", StringComparison.Ordinal);
        var (stem, kind) = (local[..local.LastIndexOf('.')], local[(local.LastIndexOf('.') + 1)..]);
        if (stem.EndsWith("_layernorm", StringComparison.Ordinal))
        {
            return Norm(local);
        }

        if (stem.EndsWith("_norm", StringComparison.Ordinal))
        {
            return Norm($"{stem}.layernorm.weight");
        }

        if (stem.EndsWith(".gate_up_proj", StringComparison.Ordinal))
        {
            return [.. Matrix($"{stem.Replace("gate_up", "gate", StringComparison.Ordinal)}.MatMul"),
                .. Matrix($"{stem.Replace("gate_up", "up", StringComparison.Ordinal)}.MatMul")];
        }

        var (q, kv) = (_shape.Heads * _shape.HeadSize, _shape.KeyValueHeads * _shape.HeadSize);
        var part = stem[(stem.LastIndexOf('.') + 1)..];
        var packed = stem.Replace(part, "qkv_proj", StringComparison.Ordinal);
        var width = kind == "bias" ? 1 : _shape.Hidden;
        var (first, rows) = part switch
        {
            "q_proj" => (0, q),
            "k_proj" => (q, kv),
            "v_proj" => (q + kv, kv),
            _ => (0, -1),
        };
        if (rows < 0)
        {
            return kind == "bias" ? Floats($"{stem}.Add.bias") : Matrix($"{stem}.MatMul");
        }

        var all = kind == "bias" ? Floats($"{packed}.Add.bias") : Matrix($"{packed}.MatMul");
        return all[(first * width)..((first + rows) * width)];
    }

    /// <summary>A projection as [out, in].</summary>
    private double[] Matrix(string stem)
    {
        var bits = _tensors.ContainsKey($"{stem}.weight_Q4") ? 4 : 8;
        if (!_tensors.TryGetValue($"{stem}.weight_Q{bits}", out var quantized))
        {
            var (k, n) = ((int)_tensors[$"{stem}.weight"].Dims[0], (int)_tensors[$"{stem}.weight"].Dims[1]);
            var transposed = Floats($"{stem}.weight");
            var matrix = new double[n * k];
            for (var i = 0; i < matrix.Length; i++)
            {
                matrix[i] = transposed[(i % k * n) + (i / k)];
            }

            return matrix;
        }

        var node = _model.Proto.Graph.Node.Single(x => x.OpType == "MatMulNBits" && x.Input[1] == quantized.Name);
        var columns = (int)node.Attribute.Single(a => a.Name == "K").I;
        var blockSize = (int)node.Attribute.Single(a => a.Name == "block_size").I;
        var (rows, blocks) = ((int)quantized.Dims[0], (int)quantized.Dims[1]);
        var values = _model.ReadBytes(quantized);
        var scales = Floats($"{stem}.weight_scales");
        var zeros = _tensors.TryGetValue($"{stem}.weight_zero_points", out var zeroTensor) ? _model.ReadBytes(zeroTensor) : null;
        var zeroRowBytes = (blocks * bits + 7) / 8;
        var result = new double[rows * columns];
        for (var n = 0; n < rows; n++)
        {
            for (var k = 0; k < columns; k++)
            {
                var block = k / blockSize;
                var blockStart = ((n * blocks) + block) * (blockSize * bits / 8);
                var inBlock = k % blockSize;
                var value = bits == 8 ? values[blockStart + inBlock] : values[blockStart + (inBlock / 2)] >> (4 * (inBlock % 2)) & 0xF;
                var zero = zeros is null
                    ? 1 << (bits - 1)
                    : bits == 8
                        ? zeros[(n * zeroRowBytes) + block]
                        : zeros[(n * zeroRowBytes) + (block / 2)] >> (4 * (block % 2)) & 0xF;
                result[(n * columns) + k] = (value - zero) * scales[(n * blocks) + block];
            }
        }

        return result;
    }

    /// <summary>A norm's weight without the offset that the graph holds it with.</summary>
    private double[] Norm(string name) => [.. Floats(name).Select(x => x - _shape.NormOffset)];

    private double[] Floats(string name)
    {
        var tensor = _tensors[name];
        var bytes = _model.ReadBytes(tensor);
        return (DataType)tensor.DataType switch
        {
            DataType.Float => [.. MemoryMarshal.Cast<byte, float>(bytes).ToArray().Select(x => (double)x)],
            DataType.Float16 => [.. MemoryMarshal.Cast<byte, Half>(bytes).ToArray().Select(x => (double)x)],
            DataType.Bfloat16 =>
                [.. MemoryMarshal.Cast<byte, ushort>(bytes).ToArray().Select(x => (double)BitConverter.UInt32BitsToSingle((uint)x << 16))],
            _ => throw new InvalidDataException($"{name} is of type {(DataType)tensor.DataType}"),
        };
    }
}
