namespace OrtBatchInvariant.Models.Export.Weights;

/// <summary>Hugging Face's names of a decoder's weights.</summary>
internal static class WeightNames
{
    public const string Embedding = "model.embed_tokens.weight";
    public const string FinalNorm = "model.norm.weight";
    public const string LmHead = "lm_head.weight";

    public static string Layer(int layer, string part) => $"model.layers.{layer}.{part}";
}
