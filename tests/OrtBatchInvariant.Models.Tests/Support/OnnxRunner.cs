using Microsoft.ML.OnnxRuntime;

namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>
/// Runs an exported model on the CPU as GenAI does: a prompt, right-padded where rows differ in length, then one token a row
/// at a time. With our provider the session is strict, so a node that could vary would refuse it.
/// </summary>
internal sealed class OnnxRunner : IDisposable
{
    private const long Padding = 0;

    private readonly TinyModel _model;
    private readonly InferenceSession _session;
    private readonly bool _isHalf;
    private Dictionary<string, (float[] Values, long Length)> _cache = [];
    private List<long>[] _mask = [];

    public OnnxRunner(string modelFolder, TinyModel model, bool batchInvariant = false)
    {
        _model = model;
        using var options = new SessionOptions { IntraOpNumThreads = 2, LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
        if (batchInvariant)
        {
            options.AppendBatchInvariant();
        }

        _session = new InferenceSession(Path.Combine(modelFolder, "model.onnx"), options);
        Nodes = batchInvariant ? CoverageReport.ForSession(options).Nodes : [];
        _isHalf = _session.InputMetadata["past_key_values.0.key"].ElementType == typeof(Float16);
        Reset();
    }

    /// <summary>What serves each node; empty for stock.</summary>
    public IReadOnlyList<CoverageNode> Nodes { get; }

    /// <summary>Forgets the sequences.</summary>
    public void Reset()
    {
        _mask = [];
        _cache = [];
        for (var layer = 0; layer < _model.Layers; layer++)
        {
            _cache[$"{layer}.key"] = ([], 0);
            _cache[$"{layer}.value"] = ([], 0);
        }
    }

    /// <summary>Appends tokens to the only sequence; logits [tokens, vocabulary] of them.</summary>
    public double[][] Append(IReadOnlyList<int> tokens) =>
        [.. AppendBatch([tokens])[0].Select(row => row.Select(x => (double)x).ToArray())];

    /// <summary>Appends tokens to each sequence; logits [rows][tokens][vocabulary] of them, without those of padding.</summary>
    public float[][][] AppendBatch(IReadOnlyList<IReadOnlyList<int>> rows)
    {
        var width = rows.Max(row => row.Count);
        _mask = _mask.Length == 0 ? [.. rows.Select(_ => new List<long>())] : _mask;
        var tokens = new List<long>();
        for (var i = 0; i < rows.Count; i++)
        {
            var missing = width - rows[i].Count;
            tokens.AddRange([.. rows[i], .. Enumerable.Repeat(Padding, missing)]);
            _mask[i].AddRange([.. Enumerable.Repeat(1L, rows[i].Count), .. Enumerable.Repeat(0L, missing)]);
        }

        var logits = Run(rows.Count, width, [.. tokens]);
        return [.. rows.Select((row, i) => logits.Skip(i * width).Take(row.Count).ToArray())];
    }

    public void Dispose() => _session.Dispose();

    private float[][] Run(int batch, int width, long[] tokens)
    {
        long total = _mask[0].Count;
        var inputs = new Dictionary<string, OrtValue>();
        try
        {
            inputs["input_ids"] = OrtValue.CreateTensorValueFromMemory(tokens, [batch, width]);
            inputs["attention_mask"] = OrtValue.CreateTensorValueFromMemory(_mask.SelectMany(row => row).ToArray(), [batch, total]);
            foreach (var (name, (values, length)) in _cache)
            {
                inputs[$"past_key_values.{name}"] = Tensor(values, [batch, _model.KeyValueHeads, length, _model.HeadSize]);
            }

            List<string> outputs = ["logits", .. _cache.Keys.Select(name => $"present.{name}")];
            using var run = new RunOptions();
            using var results = _session.Run(run, inputs, outputs);
            var index = 1;
            foreach (var name in _cache.Keys.ToList())
            {
                _cache[name] = (Values(results[index++]), total);
            }

            return [.. Values(results[0]).Chunk(_model.Vocabulary)];
        }
        finally
        {
            foreach (var value in inputs.Values)
            {
                value.Dispose();
            }
        }
    }

    private OrtValue Tensor(float[] values, long[] shape) => _isHalf
        ? OrtValue.CreateTensorValueFromMemory(values.Select(x => (Float16)x).ToArray(), shape)
        : OrtValue.CreateTensorValueFromMemory(values, shape);

    private static float[] Values(OrtValue value) => value.GetTensorTypeAndShape().ElementDataType == Microsoft.ML.OnnxRuntime.Tensors.TensorElementType.Float16
        ? [.. value.GetTensorDataAsSpan<Float16>().ToArray().Select(x => (float)x)]
        : value.GetTensorDataAsSpan<float>().ToArray();
}
