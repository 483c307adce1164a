using System.Text.Json.Serialization;

namespace OrtBatchInvariant.Verification.Hosting;

/// <summary>Whose kernels run a model.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<KernelSet>))]
public enum KernelSet
{
    /// <summary>The providers that the model's own configuration lists; none means ONNX Runtime's CPU provider.</summary>
    [JsonStringEnumMemberName("stock")]
    Stock,

    /// <summary>The batch-invariant provider, with ONNX Runtime's CPU provider for what needs no care.</summary>
    [JsonStringEnumMemberName("batchInvariant")]
    BatchInvariant,
}
