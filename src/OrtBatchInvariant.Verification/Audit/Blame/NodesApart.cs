using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Audit.Blame;

/// <summary>What a node gave for equal inputs.</summary>
/// <param name="Provider">The provider whose kernel ran it; empty if the profile does not say.</param>
/// <param name="Difference">How its outputs differ from those of the text alone.</param>
internal sealed record NodeRun(string Provider, Difference Difference);

/// <summary>
/// Runs nodes side by side in the shapes of a batch. The row that holds the text is given the values that the text had alone, so that
/// every node has inputs equal to those that it had then, whatever the nodes before it do in a batch.
/// </summary>
internal sealed class NodesApart
{
    private readonly Trace _alone;
    private readonly TracedRun _batch;
    private readonly DecoderShape _shape;
    private readonly IReadOnlyDictionary<string, ValueLayout> _layouts;
    private readonly Dictionary<string, HostTensor> _given = [];

    private NodesApart(Trace alone, TracedRun batch, DecoderShape shape, IReadOnlyDictionary<string, ValueLayout> layouts)
    {
        _alone = alone;
        _batch = batch;
        _shape = shape;
        _layouts = layouts;
    }

    /// <summary>Runs the nodes of a slice.</summary>
    /// <param name="folder">The model.</param>
    /// <param name="options">Where and with whose kernels it runs.</param>
    /// <param name="nodes">All its nodes.</param>
    /// <param name="slice">Those to run.</param>
    /// <param name="shape">The model's inputs and outputs.</param>
    /// <param name="alone">Values of the text alone.</param>
    /// <param name="batch">A run of the batch.</param>
    /// <param name="layouts">Where a token's numbers lie in each value.</param>
    /// <returns>The nodes that could be run this way, by name.</returns>
    public static IReadOnlyDictionary<string, NodeRun> Run(
        ModelFolder folder,
        DecoderModelOptions options,
        DecoderNodes nodes,
        IReadOnlyList<DecoderNode> slice,
        DecoderShape shape,
        Trace alone,
        TracedRun batch,
        IReadOnlyDictionary<string, ValueLayout> layouts)
    {
        var apart = new NodesApart(alone, batch, shape, layouts);
        List<DecoderNode> usable = [.. slice.Where(node => apart.CanRun(node, nodes))];
        return usable.Count == 0 ? new Dictionary<string, NodeRun>() : apart.Run(folder, options, nodes, usable);
    }

    private static string Given(string name) => $"given:{name}";

    private bool CanRun(DecoderNode node, DecoderNodes nodes)
    {
        if (node.HasSubgraph || !node.Outputs.Any(IsComparable))
        {
            return false;
        }

        foreach (string name in node.Inputs.Where(name => !nodes.IsConstantValue(name) && !_given.ContainsKey(name)))
        {
            if (TensorFor(name) is not { } tensor)
            {
                return false;
            }

            _given[name] = tensor;
        }

        return true;
    }

    private bool IsComparable(string output) => _layouts.TryGetValue(output, out ValueLayout? layout) && layout.IsPerToken
        && _batch.Places.Any(item => _alone.At(output, item.Position) is not null);

    // The batch's own value with the row of the text as it was alone.
    private HostTensor? TensorFor(string name)
    {
        int cache = _shape.Cache.ToList().FindIndex(value => value.Past == name);
        if (cache >= 0)
        {
            HostTensor past = _batch.CacheBefore[cache].Copy();
            TokenPlace last = _batch.Places[0].Place;
            for (int position = 0; position < _batch.Places[0].Position; position++)
            {
                if (_alone.At(_shape.Cache[cache].Present, position) is not { } numbers)
                {
                    return null;
                }

                ValueLayout.Cache.Write(past, last with { Slots = [last.Slots[position]] }, numbers);
            }

            return past;
        }

        if (!_batch.Values.TryGetValue(name, out HostTensor? tensor))
        {
            return null;
        }

        if (!FloatBits.IsFloat(tensor.Type) || !_layouts.TryGetValue(name, out ValueLayout? layout) || !layout.IsPerToken)
        {
            return tensor;
        }

        HostTensor patched = tensor.Copy();
        TokenPlace end = _batch.Places[^1].Place;
        IEnumerable<(int Position, TokenPlace Place)> places = layout.IsPerKey
            ? Enumerable.Range(0, end.Slots.Count).Select(position => (position, end with { Slots = [end.Slots[position]] }))
            : _batch.Places;
        foreach ((int position, TokenPlace place) in places)
        {
            if (_alone.At(name, position) is not { } numbers)
            {
                return null;
            }

            layout.Write(patched, place, numbers);
        }

        return patched;
    }

    private IReadOnlyDictionary<string, NodeRun> Run(ModelFolder folder, DecoderModelOptions options, DecoderNodes nodes, IReadOnlyList<DecoderNode> usable)
    {
        DirectoryInfo work = Directory.CreateTempSubdirectory("ortbi-blame-");
        var owned = new List<IDisposable>();
        try
        {
            byte[] graph = nodes.Apart(usable, _given.ToDictionary(item => item.Key, item => (int)item.Value.Type), Given);
            DecoderModelOptions sessionOptions = options with { Exposed = [], ProfilePrefix = Path.Combine(work.FullName, "profile") };
            using SessionOptions raw = DecoderModel.NewSessionOptions(sessionOptions);
            var memory = new DeviceMemory(DecoderModel.AppendProviders(raw, sessionOptions));
            using InferenceSession session = DecoderModel.NewSession(folder, graph, raw);
            using OrtIoBinding binding = session.CreateIoBinding();
            var inputs = new Dictionary<string, OrtValue>();
            foreach (string name in session.InputMetadata.Keys)
            {
                string value = _given.Keys.Single(given => Given(given) == name);
                OrtValue tensor = Own(_given[value].ToOrtValue(), owned);
                if (_shape.Cache.Any(cache => cache.Past == value) && _shape.SharesBuffer && !memory.IsHost)
                {
                    OrtValue device = Own(memory.Allocate(_given[value].Type, _given[value].Shape), owned);
                    memory.Copy(tensor, device);
                    tensor = device;
                }

                inputs[value] = tensor;
                binding.BindInput(name, tensor);
            }

            // Past and present are one buffer here where they are one in the model.
            var caches = new Dictionary<string, OrtValue>();
            foreach (string name in session.OutputMetadata.Keys)
            {
                if (_shape.SharesBuffer && _shape.Cache.FirstOrDefault(cache => cache.Present == name) is { } cache)
                {
                    caches[name] = inputs[cache.Past];
                    binding.BindOutput(name, inputs[cache.Past]);
                }
                else
                {
                    binding.BindOutputToDevice(name, OrtMemoryInfo.DefaultInstance);
                }
            }

            using var run = new RunOptions();
            session.RunWithBinding(run, binding);
            var outputs = new Dictionary<string, HostTensor>();
            foreach ((string name, OrtValue value) in binding.GetOutputNames().Zip((IReadOnlyCollection<OrtValue>)binding.GetOutputValues()))
            {
                Own(value, owned);
                if ((caches.TryGetValue(name, out OrtValue? cache) ? memory.ToHost(cache) : HostTensor.From(value)) is { } tensor)
                {
                    outputs[name] = tensor;
                }
            }

            Dictionary<string, string> providers = [];
            foreach (NodeAssignment node in NodeAssignments.Read(session.EndProfiling()))
            {
                providers[node.Name] = node.Provider;
            }

            return usable.ToDictionary(node => node.Name, node => new NodeRun(providers.GetValueOrDefault(node.Name, ""), Compare(node, outputs)));
        }
        finally
        {
            foreach (IDisposable value in owned)
            {
                value.Dispose();
            }

            work.Delete(recursive: true);
        }
    }

    private Difference Compare(DecoderNode node, Dictionary<string, HostTensor> outputs)
    {
        var difference = new Difference();
        foreach (string output in node.Outputs.Where(output => IsComparable(output) && outputs.ContainsKey(output)))
        {
            foreach ((int position, TokenPlace place) in _batch.Places)
            {
                if (_alone.At(output, position) is { } expected)
                {
                    difference.Add(FloatBits.Compare(outputs[output].Type, expected, _layouts[output].Read(outputs[output], place)));
                }
            }
        }

        return difference;
    }

    private static OrtValue Own(OrtValue value, List<IDisposable> owner)
    {
        owner.Add(value);
        return value;
    }
}
