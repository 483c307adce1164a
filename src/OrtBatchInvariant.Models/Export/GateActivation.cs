namespace OrtBatchInvariant.Models.Export;

/// <summary>Activation of an MLP's gate.</summary>
public enum GateActivation
{
    /// <summary>x sigmoid(x).</summary>
    Silu,

    /// <summary>x (1 + erf(x / sqrt(2))) / 2.</summary>
    Gelu,

    /// <summary>x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.</summary>
    GeluTanh,
}
