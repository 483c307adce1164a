using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>
/// Sequences that are decoded together: one KV buffer for each layer's keys and values, on the device, bound as past and as present
/// alike, so that nothing but token ids and logits is ever copied.
/// </summary>
public sealed partial class DecoderBatch : IDisposable
{
    private readonly DecoderModel _model;
    private readonly DecoderShape _shape;
    private readonly DeviceMemory _memory;
    private readonly bool _poisons;
    private readonly KvStorage? _storage;
    private readonly DecoderCache _cache;
    private readonly int[] _lengths;
    private readonly List<int>[] _slots;
    private readonly List<int>[] _texts;
    private readonly RunOptions _uncaptured = new();
    private readonly OrtIoBinding _binding;
    private FixedStep? _fixedStep;

    /// <summary>Allocates the KV buffers.</summary>
    /// <param name="model">The model. It must outlive the batch.</param>
    /// <param name="rows">Number of sequences.</param>
    /// <param name="capacity">Tokens that the KV buffer of a sequence holds.</param>
    /// <param name="poisons">Whether KV buffers and logits are filled with NaN before they are used, so that reading what was never
    /// written, or not writing what must be, shows. Without it KV buffers start as zeros, as in GenAI.</param>
    /// <exception cref="VerificationException">The device's memory does not suffice.</exception>
    public DecoderBatch(DecoderModel model, int rows, int capacity, bool poisons = false)
        : this(model, null, 0, new int[Positive(rows)], Positive(capacity), poisons)
    {
    }

    /// <summary>Takes rows of KV buffers that hold tokens already.</summary>
    /// <param name="model">The model. It must outlive the batch.</param>
    /// <param name="storage">The KV buffers; they must outlive the batch.</param>
    /// <param name="first">The first of the rows.</param>
    /// <param name="lengths">Tokens in each row.</param>
    /// <param name="poisons">As above, for logits.</param>
    internal DecoderBatch(DecoderModel model, KvStorage storage, int first, IReadOnlyList<int> lengths, bool poisons = false)
        : this(model, storage, first, [.. lengths], storage.Capacity, poisons)
    {
    }

    private DecoderBatch(DecoderModel model, KvStorage? storage, int first, int[] lengths, int capacity, bool poisons)
    {
        ArgumentNullException.ThrowIfNull(model);
        _model = model;
        _shape = model.Shape;
        _memory = model.Memory;
        _poisons = poisons;
        _lengths = lengths;
        _slots = [.. lengths.Select(length => new List<int>(Enumerable.Range(0, length)))];
        _texts = [.. lengths.Select(_ => new List<int>())];
        Capacity = capacity;
        if (model.Options.EnableCudaGraph)
        {
            _uncaptured.AddRunConfigEntry("gpu_graph_id", "-1");
        }

        if (_shape.SharesBuffer)
        {
            _storage = storage ?? new KvStorage(model, lengths.Length, capacity, poisons);
            _cache = new SharedCache(model, _storage, first, lengths.Length, owns: storage is null);
        }
        else
        {
            _cache = _shape.HasCache ? new GrowingCache(model, lengths.Length) : new NoCache();
        }

        _binding = model.Session.CreateIoBinding();
    }

    /// <summary>Number of sequences.</summary>
    public int Rows => _lengths.Length;

    /// <summary>Tokens that the KV buffer of a sequence holds.</summary>
    public int Capacity { get; }

    /// <summary>Told after each run what went in, the logits, and the values of <see cref="DecoderModelOptions.Exposed"/>.</summary>
    internal Action<IReadOnlyDictionary<string, HostTensor>>? Observer { get; init; }

    /// <summary>Where in the KV cache the tokens of each row are.</summary>
    internal IReadOnlyList<IReadOnlyList<int>> Slots => _slots;

    /// <summary>Tokens of the last run, padding included.</summary>
    internal int Width { get; private set; }

    /// <summary>Tokens in the KV buffer of each sequence.</summary>
    public IReadOnlyList<int> Lengths => _lengths;

    /// <summary>
    /// Takes tokens of every row in one run. The first time rows may differ in length: shorter ones are padded on the right. Later all
    /// take equally many. A model without a KV cache is given each row's whole text so far.
    /// </summary>
    /// <param name="tokens">The tokens of each row.</param>
    /// <returns>The logits of every token; those of padding mean nothing.</returns>
    public BatchLogits Append(IReadOnlyList<int[]> tokens)
    {
        int[] firsts = [.. tokens.Select((_, row) => FirstToken(row))];
        OrtValue logits = Run(tokens);
        return ToHost(logits, Width, firsts);
    }

    /// <summary>As <see cref="Append"/>, but gives the logits of the last token of each row alone: token 0 of what comes back.</summary>
    /// <param name="tokens">The tokens of each row.</param>
    /// <param name="width">Tokens that each row is padded to, or more if a row is longer.</param>
    internal BatchLogits AppendForLast(IReadOnlyList<int[]> tokens, int width = 0)
    {
        int[] lasts = [.. tokens.Select((row, i) => FirstToken(i) + row.Length - 1)];
        OrtValue logits = Run(tokens, width);
        if (_memory.IsHost)
        {
            return new BatchLogits(logits, _shape, Width, lasts);
        }

        using (logits)
        {
            OrtValue host = DeviceMemory.AllocateHost(_shape.LogitsType, Rows, 1, _shape.VocabularySize);
            for (int row = 0; row < Rows; row++)
            {
                using OrtValue source = DeviceMemory.Slice(logits, _shape.LogitsType, [1, 1, _shape.VocabularySize], (((long)row * Width) + lasts[row]) * _shape.LogitsBytes);
                using OrtValue target = DeviceMemory.Slice(host, _shape.LogitsType, [1, 1, _shape.VocabularySize], (long)row * _shape.LogitsBytes);
                _memory.Copy(source, target);
            }

            return new BatchLogits(host, _shape, 1);
        }
    }

    /// <summary>As <see cref="Append"/>, but leaves the logits on the device, unread.</summary>
    /// <param name="tokens">The tokens of each row.</param>
    public void AppendUnread(IReadOnlyList<int[]> tokens) => Run(tokens).Dispose();

    /// <summary>
    /// Takes one token of every row in a run whose shapes and addresses are always the same: the attention mask spans the whole KV buffer.
    /// That is the form that CUDA graphs need; they are used where the model was opened with them.
    /// </summary>
    /// <param name="tokens">A token for each row.</param>
    /// <returns>The logits of the tokens.</returns>
    public BatchLogits Step(ReadOnlySpan<int> tokens)
    {
        _fixedStep ??= new FixedStep(this);
        _fixedStep.Set(tokens, _lengths);
        for (int row = 0; row < Rows; row++)
        {
            _slots[row].Add(_lengths[row]);
            _lengths[row]++;
        }

        _fixedStep.Run();
        return new BatchLogits(_fixedStep.CopyLogits(), _shape, 1);
    }

    /// <summary>The same for rows of which the caller knows what they hold, whatever this batch did with them before.</summary>
    /// <param name="tokens">A token for each row.</param>
    /// <param name="lengths">Tokens in the KV buffer of each row.</param>
    internal BatchLogits Step(ReadOnlySpan<int> tokens, ReadOnlySpan<int> lengths)
    {
        _fixedStep ??= new FixedStep(this);
        _fixedStep.Set(tokens, lengths);
        _fixedStep.Run();
        return new BatchLogits(_fixedStep.CopyLogits(), _shape, 1);
    }

    /// <summary>Prepares the run of <see cref="Step(ReadOnlySpan{int})"/> and returns what repeats it, over and over at the same position.</summary>
    /// <param name="tokens">A token for each row.</param>
    internal Action RepeatableStep(ReadOnlySpan<int> tokens)
    {
        _fixedStep ??= new FixedStep(this);
        _fixedStep.Set(tokens, _lengths);
        return _fixedStep.Run;
    }

    /// <summary>Declares what the KV buffers hold to be tokens.</summary>
    internal void Pretend(int length)
    {
        Check(length);
        Array.Fill(_lengths, length);
    }

    /// <summary>Fills the KV buffers with random numbers and declares them to be tokens.</summary>
    internal void Pretend(int length, int seed)
    {
        (_storage ?? throw new VerificationException($"{_model.Folder.DecoderFile}: has no KV buffer to fill.")).Randomize(seed);
        Pretend(length);
    }

    /// <summary>The KV cache as it is now, in the order of the shape.</summary>
    internal IReadOnlyList<HostTensor> CacheSnapshot() => [.. _cache.Values.Select(_memory.ToHost)];

    /// <inheritdoc/>
    public void Dispose()
    {
        _fixedStep?.Dispose();
        _binding.Dispose();
        _uncaptured.Dispose();
        _cache.Dispose();
    }

    private static int Positive(int value, [CallerArgumentExpression(nameof(value))] string? name = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(value, 1, name);
        return value;
    }

    private static OrtValue Own(OrtValue value, List<OrtValue> owner)
    {
        owner.Add(value);
        return value;
    }

    private OrtValue Run(IReadOnlyList<int[]> tokens, int atLeast = 0)
    {
        if (tokens.Count != Rows)
        {
            throw new VerificationException($"{tokens.Count} rows of tokens were given to a batch of {Rows}.");
        }

        CheckLengths(tokens);
        int width = Width = Math.Max(atLeast, tokens.Select((row, i) => FirstToken(i) + row.Length).Max());
        Check(_shape.HasCache ? _lengths.Max() + width : width);
        int total = _cache.Width(_lengths.Max(), width);
        long[] ids = new long[Rows * width];
        long[] positions = new long[Rows * width];
        long[] mask = new long[Rows * total];
        Array.Fill(ids, _model.Folder.PadTokenId);
        for (int row = 0; row < Rows; row++)
        {
            int first = FirstToken(row);
            for (int i = 0; i < first; i++)
            {
                ids[(row * width) + i] = _texts[row][i];
                positions[(row * width) + i] = i;
            }

            for (int i = 0; i < tokens[row].Length; i++)
            {
                ids[(row * width) + first + i] = tokens[row][i];
                positions[(row * width) + first + i] = _lengths[row] + i;
                _slots[row].Add(_cache.Slot(_lengths[row], i));
            }

            if (!_shape.HasCache)
            {
                _texts[row].AddRange(tokens[row]);
            }

            _lengths[row] += tokens[row].Length;
            foreach (int slot in _slots[row])
            {
                mask[(row * total) + slot] = 1;
            }
        }

        OrtValue logits = AllocateLogits(width, isReused: true);
        var inputs = new Dictionary<string, OrtValue>();
        try
        {
            BindTokens(_shape.InputIds, ids, width, inputs);
            BindTokens(_shape.AttentionMask, mask, total, inputs);
            BindTokens(_shape.PositionIds, positions, width, inputs);
            _cache.Bind(_binding);
            BindExposed(_binding);
            _binding.BindOutput(_shape.Logits, logits);
            Run(_uncaptured, _binding);
            TakeOutputs(_binding, logits, inputs);
            return logits;
        }
        catch
        {
            logits.Dispose();
            throw;
        }
        finally
        {
            foreach (OrtValue value in inputs.Values)
            {
                value.Dispose();
            }
        }
    }

    private void BindTokens(TokenInput? input, long[] values, int width, Dictionary<string, OrtValue> owner)
    {
        if (input is null)
        {
            return;
        }

        OrtValue tensor = owner[input.Name] = DeviceMemory.AllocateHost(input.Type, Rows, width);
        Write(tensor, input.Type, values);
        _binding.BindInput(input.Name, tensor);
    }

    private static void Write(OrtValue tensor, TensorElementType type, ReadOnlySpan<long> values)
    {
        if (type == TensorElementType.Int64)
        {
            values.CopyTo(tensor.GetTensorMutableDataAsSpan<long>());
        }
        else
        {
            TensorPrimitives.ConvertTruncating<long, int>(values, tensor.GetTensorMutableDataAsSpan<int>());
        }
    }

    private void BindExposed(OrtIoBinding binding)
    {
        foreach (string name in _model.Options.Exposed)
        {
            binding.BindOutputToDevice(name, OrtMemoryInfo.DefaultInstance);
        }
    }

    // What is bound to a buffer comes back as well, under another handle.
    private void TakeOutputs(OrtIoBinding binding, OrtValue logits, IReadOnlyDictionary<string, OrtValue> inputs)
    {
        if (_shape.SharesBuffer && Observer is null)
        {
            return;
        }

        var outputs = new Dictionary<string, OrtValue>();
        foreach ((string name, OrtValue value) in binding.GetOutputNames().Zip((IReadOnlyCollection<OrtValue>)binding.GetOutputValues()))
        {
            outputs[name] = value;
        }

        HashSet<OrtValue> taken = _cache.Take(outputs);
        if (Observer is not null)
        {
            var seen = new Dictionary<string, HostTensor> { [_shape.Logits] = _memory.ToHost(logits) };
            foreach ((string name, OrtValue value) in inputs.Concat(outputs.Where(output => _model.Options.Exposed.Contains(output.Key))))
            {
                if (HostTensor.From(value) is { } tensor)
                {
                    seen[name] = tensor;
                }
            }

            Observer(seen);
        }

        foreach (OrtValue value in outputs.Values.Where(value => !taken.Contains(value)))
        {
            value.Dispose();
        }
    }

    private void Run(RunOptions options, OrtIoBinding binding)
    {
        try
        {
            _model.Session.RunWithBinding(options, binding);
        }
        catch (OnnxRuntimeException exception)
        {
            throw new VerificationException($"{_model.Folder.DecoderFile}: the run failed ({DecoderModel.OneLine(exception)}).", exception);
        }
    }

    private OrtValue AllocateLogits(int tokens, bool isReused)
    {
        long[] shape = [Rows, tokens, _shape.VocabularySize];
        OrtValue logits = isReused && !_memory.IsHost && _storage is not null ? _storage.Logits(Rows, tokens) : _memory.Allocate(_shape.LogitsType, shape);
        if (_poisons)
        {
            _memory.Fill(logits, _shape.LogitsType, 0xFF, shape);
        }

        return logits;
    }

    // Where a row's new tokens begin among those of a run.
    private int FirstToken(int row) => _shape.HasCache ? 0 : _lengths[row];

    private void CheckLengths(IReadOnlyList<int[]> tokens)
    {
        bool differ = tokens.Any(row => row.Length != tokens[0].Length);
        if (tokens.Any(row => row.Length == 0) || (differ && _shape.HasCache && _lengths.Any(length => length > 0)))
        {
            throw new VerificationException("A row has no tokens, or rows differ in length after the first run: pad the prompts, then give all rows equally many.");
        }

        if (differ && !_shape.TakesUnequalRows)
        {
            throw new VerificationException($"{_model.Folder.DecoderFile}: {DecoderShape.WhyEqualRows}; give all rows equally many tokens.");
        }
    }

    private BatchLogits ToHost(OrtValue logits, int tokens, IReadOnlyList<int> firsts)
    {
        if (_memory.IsHost)
        {
            return new BatchLogits(logits, _shape, tokens, firsts);
        }

        using (logits)
        {
            OrtValue host = DeviceMemory.AllocateHost(_shape.LogitsType, Rows, tokens, _shape.VocabularySize);
            _memory.Copy(logits, host);
            return new BatchLogits(host, _shape, tokens, firsts);
        }
    }

    private void Check(int length)
    {
        if (length > Capacity)
        {
            throw new VerificationException($"{length} tokens do not fit the KV buffer of {Capacity}: make the batch with a larger capacity.");
        }
    }
}
