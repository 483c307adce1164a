using System.Text.Json;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>What a decoder's nodes say of its KV cache.</summary>
/// <param name="SharesBuffer">Whether past and present keys and values may be one buffer.</param>
/// <param name="HeadSize">Elements of a head, as the product after attention takes them; null if that does not say.</param>
/// <param name="ContextLength">The positions of its rotary tables; without any, a length that most decoders have.</param>
internal sealed record DecoderFile(bool SharesBuffer, int? HeadSize, int ContextLength)
{
    private const string Attention = "GroupQueryAttention";
    private const int CosCacheInput = 7;
    private const int UsualContextLength = 1024;

    public static DecoderFile Read(ModelFolder folder, IReadOnlySet<string> pasts)
    {
        GraphProto graph = OnnxModel.Load(folder.DecoderFile).Proto.Graph;
        List<NodeProto> takers = [.. graph.Node.Where(node => node.Input.Any(pasts.Contains))];
        Dictionary<string, long> lengths = graph.Initializer.Where(tensor => tensor.Dims.Count == 2).ToDictionary(tensor => tensor.Name, tensor => tensor.Dims[0]);
        List<int> rotary =
        [
            .. graph.Node.Where(node => node.OpType == Attention && node.Input.Count > CosCacheInput && lengths.ContainsKey(node.Input[CosCacheInput]))
                .Select(node => checked((int)lengths[node.Input[CosCacheInput]])),
        ];
        return new DecoderFile(
            IsAllowed(folder) && takers.Count > 0 && takers.All(node => node.OpType == Attention),
            HeadSizeOf(graph),
            rotary.Count > 0 ? rotary.Min() : UsualContextLength);
    }

    private static int? HeadSizeOf(GraphProto graph)
    {
        NodeProto? attention = graph.Node.FirstOrDefault(node => node.OpType == Attention);
        long? heads = attention?.Attribute.FirstOrDefault(attribute => attribute.Name == "num_heads")?.I;
        NodeProto? product = attention is null ? null : graph.Node.FirstOrDefault(node => node.Input.Count > 1 && node.Input[0] == attention.Output[0]);
        long? width = product?.Attribute.FirstOrDefault(attribute => attribute.Name == "K")?.I
            ?? graph.Initializer.FirstOrDefault(tensor => tensor.Name == product?.Input[1] && tensor.Dims.Count == 2)?.Dims[0];
        return heads > 0 && width > 0 && width % heads == 0 ? (int)(width / heads) : null;
    }

    private static bool IsAllowed(ModelFolder folder) => folder.Config is not { } config
        || !config.TryGetProperty("search", out JsonElement search)
        || !search.TryGetProperty("past_present_share_buffer", out JsonElement shares)
        || shares.ValueKind != JsonValueKind.False;
}
