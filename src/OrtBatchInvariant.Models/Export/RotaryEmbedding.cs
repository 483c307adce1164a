namespace OrtBatchInvariant.Models.Export;

/// <summary>Rotary embedding of a layer's queries and keys.</summary>
/// <param name="Theta">Base of the frequencies: frequency_i = theta^(-2i / rotated width).</param>
/// <param name="Fraction">Part of a head that is rotated, from its start; the rest passes as it is.</param>
/// <param name="Scaling">Scaling of the frequencies, or null.</param>
public sealed record RotaryEmbedding(double Theta = 10000, double Fraction = 1, RopeScaling? Scaling = null)
{
    internal int Width(int headSize) => (int)(headSize * Fraction);

    internal void Validate(string source, int headSize)
    {
        if (!(Theta > 0) || !double.IsFinite(Theta))
        {
            throw new ModelException($"{source}: rope_theta {Theta} is out of range.");
        }

        if (!(Fraction > 0 && Fraction <= 1) || Width(headSize) < 2 || Width(headSize) % 2 != 0)
        {
            throw new ModelException(
                $"{source}: partial_rotary_factor {Fraction} of head_dim {headSize} is not an even width from 2 to {headSize}.");
        }

        Scaling?.Validate(source, Width(headSize) / 2);
    }
}
