namespace OrtBatchInvariant.Models.Export;

/// <summary>Reads the rotary embeddings of <c>config.json</c>, in the layouts of Transformers 4 and 5.</summary>
internal static class HfRopeReader
{
    private const double DefaultTheta = 10000;

    /// <summary>The rotary embedding of all layers, and that of windowed ones where it is another.</summary>
    public static (RotaryEmbedding Global, RotaryEmbedding? Local) Read(JsonFields config, ModelFamily family)
    {
        var parameters = config.OptionalObject("rope_parameters") ?? config.OptionalObject("rope_scaling");

        // Transformers 5 writes one object for each kind of layer.
        var global = parameters?.OptionalObject("full_attention") ?? parameters;
        var local = parameters?.OptionalObject("sliding_attention");
        var fraction = config.OptionalDouble("partial_rotary_factor") ?? global?.OptionalDouble("partial_rotary_factor") ?? 1;
        if (fraction != 1 && !family.CanRotatePartially)
        {
            throw config.Error($"asks for a partial_rotary_factor of {fraction}; for {family.Architecture} only 1 can be exported");
        }

        var rope = new RotaryEmbedding(
            global?.OptionalDouble("rope_theta") ?? config.OptionalDouble("rope_theta") ?? DefaultTheta,
            fraction,
            global is null ? null : ReadScaling(config, global));
        if (family.LocalThetaKey is not { } localKey)
        {
            return (rope, null);
        }

        var localTheta = local?.OptionalDouble("rope_theta") ?? config.OptionalDouble(localKey) ?? DefaultTheta;
        return (rope, new RotaryEmbedding(localTheta, fraction, local is null ? null : ReadScaling(config, local)));
    }

    private static RopeScaling? ReadScaling(JsonFields config, JsonFields rope)
    {
        var type = rope.OptionalString("rope_type") ?? rope.OptionalString("type") ?? "default";
        return type switch
        {
            "default" => null,
            "linear" => new LinearRopeScaling(rope.Double("factor")),
            "llama3" => new Llama3RopeScaling(
                rope.Double("factor"), rope.Double("low_freq_factor"), rope.Double("high_freq_factor"), OriginalContext(config, rope)),

            // "su" is what the first files called it.
            "longrope" or "su" => ReadLongRope(config, rope),
            _ => throw config.Error(
                $"asks for rope scaling of type '{type}'; only default, linear, llama3 and longrope can be exported"),
        };
    }

    private static LongRopeScaling ReadLongRope(JsonFields config, JsonFields rope)
    {
        var original = OriginalContext(config, rope);
        var stretch = (double)config.Int("max_position_embeddings") / original;
        return new LongRopeScaling(
            rope.Doubles("short_factor"),
            rope.Doubles("long_factor"),
            original,
            rope.OptionalDouble("attention_factor") ?? LongRopeScaling.AttentionFactorFor(stretch, original));
    }

    private static int OriginalContext(JsonFields config, JsonFields rope) =>
        config.OptionalInt("original_max_position_embeddings") ?? rope.Int("original_max_position_embeddings");
}
