using Microsoft.ML.OnnxRuntime;

namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>Runs an exported model in stock ONNX Runtime on the CPU, batch 1.</summary>
internal sealed class OnnxRunner : IDisposable
{
    private readonly TinyModel _model;
    private readonly InferenceSession _session;
    private Dictionary<string, (float[] Values, long Length)> _cache = [];

    public OnnxRunner(string modelFolder, TinyModel model)
    {
        _model = model;
        using var options = new SessionOptions { IntraOpNumThreads = 1, LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
        _session = new InferenceSession(Path.Combine(modelFolder, "model.onnx"), options);
        Reset();
    }

    /// <summary>Forgets the sequence.</summary>
    public void Reset()
    {
        _cache = [];
        for (var layer = 0; layer < _model.Layers; layer++)
        {
            _cache[$"{layer}.key"] = ([], 0);
            _cache[$"{layer}.value"] = ([], 0);
        }
    }

    /// <summary>Appends tokens to the sequence; logits [tokens, vocabulary] of them.</summary>
    public double[][] Append(IReadOnlyList<int> tokens)
    {
        var total = _cache["0.key"].Length + tokens.Count;
        var inputs = new Dictionary<string, OrtValue>();
        try
        {
            inputs["input_ids"] = OrtValue.CreateTensorValueFromMemory(tokens.Select(t => (long)t).ToArray(), [1, tokens.Count]);
            inputs["attention_mask"] = OrtValue.CreateTensorValueFromMemory(Enumerable.Repeat(1L, (int)total).ToArray(), [1, total]);
            foreach (var (name, (values, length)) in _cache)
            {
                inputs[$"past_key_values.{name}"] =
                    OrtValue.CreateTensorValueFromMemory(values, [1, _model.KeyValueHeads, length, _model.HeadSize]);
            }

            List<string> outputs = ["logits", .. _cache.Keys.Select(name => $"present.{name}")];
            using var run = new RunOptions();
            using var results = _session.Run(run, inputs, outputs);
            var index = 1;
            foreach (var name in _cache.Keys.ToList())
            {
                _cache[name] = (results[index++].GetTensorDataAsSpan<float>().ToArray(), total);
            }

            var logits = results[0].GetTensorDataAsSpan<float>().ToArray();
            return [.. logits.Chunk(_model.Vocabulary).Select(row => row.Select(x => (double)x).ToArray())];
        }
        finally
        {
            foreach (var value in inputs.Values)
            {
                value.Dispose();
            }
        }
    }

    public void Dispose() => _session.Dispose();
}
