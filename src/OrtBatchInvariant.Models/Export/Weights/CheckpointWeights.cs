using OrtBatchInvariant.Models.SafeTensors;

namespace OrtBatchInvariant.Models.Export.Weights;

/// <summary>Weights of a safetensors checkpoint.</summary>
internal sealed class CheckpointWeights(SafeTensorsCheckpoint checkpoint, bool tiesEmbeddings, bool isTextOfVisionModel) : IWeightSource
{
    // What Transformers 4 and 5 put before the names of the text part.
    private static readonly (string Plain, string Prefixed)[] _textPrefixes =
    [
        ("model.", "language_model.model."), ("model.", "model.language_model."), ("lm_head.", "language_model.lm_head."),
    ];

    private static readonly string[] _visionParts = ["vision_tower.", "multi_modal_projector."];

    private readonly HashSet<string> _used = new(StringComparer.Ordinal);

    public MatrixSource Matrix(string name, int rows, int columns)
    {
        var (info, file) = Find(name, rows, columns);
        return new CheckpointMatrix(file, info, rows, columns);
    }

    public float[] Vector(string name, int length)
    {
        var (info, file) = Find(name, length);
        var values = new float[length];
        file.Read(info, 0, values);
        return values;
    }

    /// <summary>A weight that the graph has no place for would be dropped in silence, and the model be another one.</summary>
    public void CheckAllUsed()
    {
        foreach (var name in checkpoint.Names.Order(StringComparer.Ordinal))
        {
            // Old checkpoints carry the rotary frequencies, which the configuration determines, and tied ones may carry
            // the embedding a second time.
            var isRedundant = name.EndsWith(".rotary_emb.inv_freq", StringComparison.Ordinal)
                || (tiesEmbeddings && name == StoredName(WeightNames.LmHead));
            if (!isRedundant && !IsVision(name) && !_used.Contains(name))
            {
                throw new ModelException(
                    $"{checkpoint.Folder}: tensor '{name}' has no place in the model that config.json describes.");
            }
        }
    }

    private bool IsVision(string name) => isTextOfVisionModel
        && _visionParts.Any(part => name.StartsWith(part, StringComparison.Ordinal) || name.StartsWith($"model.{part}", StringComparison.Ordinal));

    /// <summary>A text weight's name in this checkpoint; the plain one if it is not there under any.</summary>
    private string StoredName(string name) => !isTextOfVisionModel
        ? name
        : _textPrefixes
            .Where(prefix => name.StartsWith(prefix.Plain, StringComparison.Ordinal))
            .Select(prefix => prefix.Prefixed + name[prefix.Plain.Length..])
            .FirstOrDefault(stored => checkpoint.TryGet(stored, out _, out _)) ?? name;

    private (SafeTensorInfo Info, SafeTensorsFile File) Find(string plainName, params ReadOnlySpan<int> shape)
    {
        var name = StoredName(plainName);
        if (!checkpoint.TryGet(name, out var info, out var file))
        {
            throw new ModelException($"{checkpoint.Folder}: tensor '{name}' is missing; config.json asks for it.");
        }

        var matches = info.Shape.Count == shape.Length;
        for (var i = 0; matches && i < shape.Length; i++)
        {
            matches = info.Shape[i] == shape[i];
        }

        if (!matches)
        {
            throw new ModelException(
                $"{file.Path}: tensor '{name}' has shape [{string.Join(", ", info.Shape)}]; "
                + $"config.json asks for [{string.Join(", ", shape.ToArray())}].");
        }

        if (!SafeTensorTypes.IsReadable(info.DataType))
        {
            throw new ModelException($"{file.Path}: tensor '{name}' is of type {info.DataType}; F32, F16 and BF16 can be exported.");
        }

        _used.Add(name);
        return (info, file);
    }

    private sealed class CheckpointMatrix(SafeTensorsFile file, SafeTensorInfo info, int rows, int columns)
        : MatrixSource(info.Name, rows, columns)
    {
        public override void Read(int row, int firstColumn, Span<float> destination) =>
            file.Read(info, ((long)row * Columns) + firstColumn, destination);
    }
}
