using System.Globalization;
using System.Runtime.InteropServices;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Verification;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Gpu.Models;

/// <summary>Gives tokens embeddings of NaN and of infinities, so that a neighbour's row can hold nothing else.</summary>
internal static class HostileEmbeddings
{
    private const string Table = "model.embed_tokens.weight";

    /// <param name="modelPath">A model whose embedding is a table of floats in an external file.</param>
    /// <param name="tokens">The first gets NaN, the second infinities of both signs.</param>
    public static void Write(string modelPath, IReadOnlyList<int> tokens)
    {
        OnnxModel model = OnnxModel.Load(modelPath);
        TensorProto table = model.Proto.Graph.Initializer.FirstOrDefault(tensor => tensor.Name == Table)
            ?? throw new VerificationException($"{modelPath}: there is no initializer '{Table}'.");
        Dictionary<string, string> place = table.ExternalData.ToDictionary(entry => entry.Key, entry => entry.Value);
        var type = (DataType)table.DataType;
        int width = checked((int)table.Dims[1]);
        using var file = new FileStream(Path.Combine(Path.GetDirectoryName(modelPath)!, place["location"]), FileMode.Open, FileAccess.Write);
        for (int i = 0; i < tokens.Count; i++)
        {
            byte[] row = Row(type, width, isNaN: i == 0);
            file.Position = long.Parse(place["offset"], CultureInfo.InvariantCulture) + ((long)tokens[i] * row.Length);
            file.Write(row);
        }
    }

    private static byte[] Row(DataType type, int width, bool isNaN)
    {
        float[] values = [.. Enumerable.Range(0, width).Select(i => isNaN ? float.NaN : i % 2 == 0 ? float.PositiveInfinity : float.NegativeInfinity)];
        return type switch
        {
            DataType.Float => MemoryMarshal.AsBytes(values.AsSpan()).ToArray(),
            DataType.Float16 => MemoryMarshal.AsBytes(values.Select(value => (Half)value).ToArray().AsSpan()).ToArray(),
            DataType.Bfloat16 => MemoryMarshal.AsBytes(values.Select(value => (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16)).ToArray().AsSpan()).ToArray(),
            _ => throw new VerificationException($"An embedding of type {type} cannot hold NaN."),
        };
    }
}
