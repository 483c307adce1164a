using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Audit.Blame;

/// <summary>What is known of a value inside the graph before a batch is run.</summary>
/// <param name="Layout">Where a token's numbers lie; null where shapes follow neither rows nor tokens in a way that is known.</param>
/// <param name="BytesPerToken">Bytes of a token's numbers, roughly.</param>
internal sealed record ValueProbe(ValueLayout? Layout, long BytesPerToken)
{
    /// <summary>Runs a few tokens with every value exposed.</summary>
    public static IReadOnlyDictionary<string, ValueProbe> All(ModelFolder folder, DecoderModelOptions options, DecoderNodes nodes)
    {
        using DecoderModel model = Open(folder, options, nodes, [.. nodes.Outputs]);
        var tokens = new Random(1);
        (Dictionary<string, HostTensor> first, Dictionary<string, HostTensor> step) = Run(ValueLayout.Rows, ValueLayout.Tokens);
        (Dictionary<string, HostTensor> moreRows, _) = Run(ValueLayout.MoreRows, ValueLayout.Tokens);
        (Dictionary<string, HostTensor> moreTokens, Dictionary<string, HostTensor> laterStep) = Run(ValueLayout.Rows, ValueLayout.MoreTokens);
        Dictionary<string, HostTensor>[] runs = [first, moreRows, moreTokens, step, laterStep];
        Dictionary<string, ValueProbe> probes = first.Keys.Where(name => runs.All(run => run.ContainsKey(name))).ToDictionary(name => name, name => new ValueProbe(
            ValueLayout.From(first[name].Shape, moreRows[name].Shape, moreTokens[name].Shape, step[name].Shape, laterStep[name].Shape, model.Shape.HasCache),
            (first[name].Bytes.Length / (ValueLayout.Rows * ValueLayout.Tokens)) + 1));

        // A cache that is one buffer does not change its shape.
        foreach (CacheValue cache in model.Shape.Cache)
        {
            probes[cache.Present] = new ValueProbe(ValueLayout.Cache, (long)cache.HeadCount * cache.HeadSize * DecoderShape.ElementBytes(cache.Type));
        }

        return probes;

        (Dictionary<string, HostTensor> Prompt, Dictionary<string, HostTensor> Step) Run(int rows, int count)
        {
            var seen = new List<Dictionary<string, HostTensor>>();
            using var batch = new DecoderBatch(model, rows, ValueLayout.MoreTokens + 1) { Observer = values => seen.Add(new(values)) };
            batch.Append([.. Enumerable.Range(0, rows).Select(_ => Draw(count))]).Dispose();
            batch.Append([.. Enumerable.Range(0, rows).Select(_ => Draw(1))]).Dispose();
            return (seen[0], seen[1]);
        }

        int[] Draw(int count) => [.. Enumerable.Range(0, count).Select(_ => tokens.Next(model.Shape.VocabularySize))];
    }

    /// <summary>Opens the model with values exposed; those that are outputs anyway need no exposing.</summary>
    public static DecoderModel Open(ModelFolder folder, DecoderModelOptions options, DecoderNodes nodes, HashSet<string> values)
    {
        List<string> exposed = [.. values.Where(name => !nodes.IsGraphOutput(name))];
        return DecoderModel.Open(folder, options with { Exposed = exposed }, nodes.Exposing(exposed));
    }
}
