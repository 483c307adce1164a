namespace OrtBatchInvariant.Models.Export;

/// <summary>Reads what <c>config.json</c> says of single layers: which have a window, which a rotary embedding.</summary>
internal static class HfLayerReader
{
    private const string Windowed = "sliding_attention";
    private const string Full = "full_attention";

    /// <summary>For each layer, whether it has a rotary embedding.</summary>
    public static IReadOnlyList<bool> ReadRotary(JsonFields config, int layerCount)
    {
        if (config.OptionalInts("no_rope_layers") is { } flags)
        {
            // Despite the key's name, 1 stands for a layer that has one. The list may be longer than the model.
            return flags.Count >= layerCount && flags.All(flag => flag is 0 or 1)
                ? [.. flags.Take(layerCount).Select(flag => flag == 1)]
                : throw config.Error($"has no_rope_layers that are not {layerCount} times 0 or 1");
        }

        return config.OptionalInt("no_rope_layer_interval") is { } interval ? EveryButOneIn(interval, config, "no_rope_layer_interval") : [true];
    }

    /// <summary>The window, -1 if there is none, and for each layer whether it has it.</summary>
    public static (int Window, IReadOnlyList<bool> Pattern) ReadWindow(
        JsonFields config, ModelFamily family, int layerCount, IReadOnlyList<bool> rotary)
    {
        var isUsed = family.Window switch
        {
            WindowRule.Always => true,
            WindowRule.IfUsed => config.OptionalBool("use_sliding_window") ?? false,
            _ => false,
        };
        if (!isUsed || config.OptionalInt("sliding_window") is not { } window)
        {
            return (-1, [true]);
        }

        var pattern = ReadPattern(config, layerCount, rotary);
        return pattern.Take(layerCount).Contains(true) ? (window, pattern) : (-1, [true]);
    }

    private static bool[] ReadPattern(JsonFields config, int layerCount, IReadOnlyList<bool> rotary)
    {
        if (config.OptionalStrings("layer_types") is { } types)
        {
            return types.Count == layerCount && types.All(type => type is Windowed or Full)
                ? [.. types.Select(type => type == Windowed)]
                : throw config.Error($"has layer_types that are not {layerCount} times {Windowed} or {Full}");
        }

        if (config.OptionalInt("max_window_layers") is { } first)
        {
            return [.. Enumerable.Range(0, layerCount).Select(layer => layer >= first)];
        }

        if (config.OptionalInt("sliding_window_pattern") is { } interval)
        {
            return EveryButOneIn(interval, config, "sliding_window_pattern");
        }

        // Where some layers have no rotary embedding, it is those that have the window.
        return rotary.Contains(false) ? [.. rotary.Select(has => !has)] : [true];
    }

    private static bool[] EveryButOneIn(int interval, JsonFields config, string key) => interval is >= 1 and <= 1 << 12
        ? [.. Enumerable.Range(1, interval).Select(place => place != interval)]
        : throw config.Error($"has a {key} of {interval}; it must be from 1 to 4096");
}
