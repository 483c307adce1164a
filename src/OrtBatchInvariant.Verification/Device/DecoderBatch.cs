using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>
/// Sequences that are decoded together: one KV buffer for each layer's keys and values, on the device, bound as past and as present
/// alike, so that nothing but token ids and logits is ever copied.
/// </summary>
public sealed class DecoderBatch : IDisposable
{
    private static readonly string[] s_kinds = ["key", "value"];

    private readonly DecoderModel _model;
    private readonly DecoderShape _shape;
    private readonly DeviceMemory _memory;
    private readonly bool _poisons;
    private readonly List<OrtValue> _owned = [];
    private readonly List<(string Past, string Present, OrtValue Value)> _cache = [];
    private readonly int[] _lengths;
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
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentOutOfRangeException.ThrowIfLessThan(rows, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(capacity, 1);
        _model = model;
        _shape = model.Shape;
        _memory = model.Memory;
        _poisons = poisons;
        Capacity = capacity;
        _lengths = new int[rows];
        if (model.Options.EnableCudaGraph)
        {
            _uncaptured.AddRunConfigEntry("gpu_graph_id", "-1");
        }

        _binding = model.Session.CreateIoBinding();
        try
        {
            AllocateCache();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Number of sequences.</summary>
    public int Rows => _lengths.Length;

    /// <summary>Tokens that the KV buffer of a sequence holds.</summary>
    public int Capacity { get; }

    /// <summary>Tokens in the KV buffer of each sequence.</summary>
    public IReadOnlyList<int> Lengths => _lengths;

    /// <summary>
    /// Takes tokens of every row in one run. The first time rows may differ in length: shorter ones are padded on the right. Later all
    /// take equally many.
    /// </summary>
    /// <param name="tokens">The tokens of each row.</param>
    /// <returns>The logits of every token; those of padding mean nothing.</returns>
    public BatchLogits Append(IReadOnlyList<int[]> tokens)
    {
        OrtValue logits = Run(tokens);
        return ToHost(logits, tokens.Max(row => row.Length));
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
            _lengths[row]++;
        }

        _fixedStep.Run();
        return new BatchLogits(_fixedStep.CopyLogits(), _shape, 1);
    }

    /// <summary>Prepares the run of <see cref="Step"/> and returns what repeats it, over and over at the same position.</summary>
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
        long[] shape = CacheShape;
        using OrtValue noise = DeviceMemory.AllocateHost(_shape.CacheType, shape);
        FillWithNoise(noise.GetTensorMutableRawData(), seed);
        foreach ((_, _, OrtValue value) in _cache)
        {
            _memory.Copy(noise, value);
        }

        Pretend(length);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _fixedStep?.Dispose();
        _binding.Dispose();
        _uncaptured.Dispose();
        foreach (OrtValue value in _owned)
        {
            value.Dispose();
        }
    }

    private long[] CacheShape => [Rows, _shape.KeyValueHeadCount, Capacity, _shape.HeadSize];

    private static OrtValue Own(OrtValue value, List<OrtValue> owner)
    {
        owner.Add(value);
        return value;
    }

    private void AllocateCache()
    {
        for (int layer = 0; layer < _shape.LayerCount; layer++)
        {
            foreach (string kind in s_kinds)
            {
                OrtValue value = Own(_memory.Allocate(_shape.CacheType, CacheShape), _owned);
                _memory.Fill(value, _shape.CacheType, _poisons ? (byte)0xFF : (byte)0, CacheShape);
                _cache.Add((DecoderShape.CacheName("past_key_values", layer, kind), DecoderShape.CacheName("present", layer, kind), value));
            }
        }

        BindCache(_binding);
    }

    private void BindCache(OrtIoBinding binding)
    {
        foreach ((string past, string present, OrtValue value) in _cache)
        {
            binding.BindInput(past, value);
            binding.BindOutput(present, value);
        }
    }

    private OrtValue Run(IReadOnlyList<int[]> tokens)
    {
        if (tokens.Count != Rows)
        {
            throw new VerificationException($"{tokens.Count} rows of tokens were given to a batch of {Rows}.");
        }

        int width = tokens.Max(row => row.Length);
        bool isFirst = _lengths.All(length => length == 0);
        if (tokens.Any(row => row.Length == 0 || (!isFirst && row.Length != width)))
        {
            throw new VerificationException("A row has no tokens, or rows differ in length after the first run: pad the prompts, then give all rows equally many.");
        }

        int total = _lengths.Max() + width;
        Check(total);
        using OrtValue ids = DeviceMemory.AllocateHost(TensorElementType.Int64, Rows, width);
        using OrtValue mask = DeviceMemory.AllocateHost(TensorElementType.Int64, Rows, total);
        Span<long> idValues = ids.GetTensorMutableDataAsSpan<long>();
        Span<long> maskValues = mask.GetTensorMutableDataAsSpan<long>();
        idValues.Fill(_model.Folder.PadTokenId);
        maskValues.Clear();
        for (int row = 0; row < Rows; row++)
        {
            for (int i = 0; i < tokens[row].Length; i++)
            {
                idValues[(row * width) + i] = tokens[row][i];
            }

            _lengths[row] += tokens[row].Length;
            maskValues.Slice(row * total, _lengths[row]).Fill(1);
        }

        OrtValue logits = AllocateLogits(width);
        try
        {
            _binding.BindInput("input_ids", ids);
            _binding.BindInput("attention_mask", mask);
            _binding.BindOutput(_model.Folder.LogitsName, logits);
            Run(_uncaptured, _binding);
            return logits;
        }
        catch
        {
            logits.Dispose();
            throw;
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

    private OrtValue AllocateLogits(int tokens)
    {
        long[] shape = [Rows, tokens, _shape.VocabularySize];
        OrtValue logits = _memory.Allocate(_shape.LogitsType, shape);
        if (_poisons)
        {
            _memory.Fill(logits, _shape.LogitsType, 0xFF, shape);
        }

        return logits;
    }

    private BatchLogits ToHost(OrtValue logits, int tokens)
    {
        if (_memory.IsHost)
        {
            return new BatchLogits(logits, _shape, tokens);
        }

        using (logits)
        {
            OrtValue host = DeviceMemory.AllocateHost(_shape.LogitsType, Rows, tokens, _shape.VocabularySize);
            _memory.Copy(logits, host);
            return new BatchLogits(host, _shape, tokens);
        }
    }

    private void Check(int length)
    {
        if (length > Capacity)
        {
            throw new VerificationException($"{length} tokens do not fit the KV buffer of {Capacity}: make the batch with a larger capacity.");
        }
    }

    // Small numbers of either sign in fp16 and bf16, and in fp32: the exponent is never that of infinities.
    private static void FillWithNoise(Span<byte> bytes, int seed)
    {
        new Random(seed).NextBytes(bytes);
        foreach (ref ushort half in MemoryMarshal.Cast<byte, ushort>(bytes))
        {
            half = (ushort)((half & 0x83FF) | 0x3400);
        }
    }

    /// <summary>The inputs and outputs of <see cref="Step"/>, which stay where they are.</summary>
    private sealed class FixedStep : IDisposable
    {
        private readonly DecoderBatch _batch;
        private readonly List<OrtValue> _owned = [];
        private readonly OrtIoBinding _binding;
        private readonly RunOptions _options = new();
        private readonly OrtValue _ids;
        private readonly OrtValue _hostIds;
        private readonly OrtValue _mask;
        private readonly OrtValue _hostMask;
        private readonly OrtValue _logits;

        public FixedStep(DecoderBatch batch)
        {
            _batch = batch;
            DeviceMemory memory = batch._memory;
            _ids = Own(memory.Allocate(TensorElementType.Int64, batch.Rows, 1), _owned);
            _hostIds = Own(DeviceMemory.AllocateHost(TensorElementType.Int64, batch.Rows, 1), _owned);
            _mask = Own(memory.Allocate(TensorElementType.Int64, batch.Rows, batch.Capacity), _owned);
            _hostMask = Own(DeviceMemory.AllocateHost(TensorElementType.Int64, batch.Rows, batch.Capacity), _owned);
            _logits = Own(batch.AllocateLogits(1), _owned);
            if (batch._model.Options.EnableCudaGraph)
            {
                _options.AddRunConfigEntry("gpu_graph_id", batch._model.NextGraph().ToString(CultureInfo.InvariantCulture));
            }

            _binding = batch._model.Session.CreateIoBinding();
            batch.BindCache(_binding);
            _binding.BindInput("input_ids", _ids);
            _binding.BindInput("attention_mask", _mask);
            _binding.BindOutput(batch._model.Folder.LogitsName, _logits);
        }

        /// <summary>The tokens, and how many are in the KV buffer before them.</summary>
        public void Set(ReadOnlySpan<int> tokens, ReadOnlySpan<int> lengths)
        {
            if (tokens.Length != _batch.Rows)
            {
                throw new VerificationException($"{tokens.Length} tokens were given to a batch of {_batch.Rows} rows.");
            }

            Span<long> ids = _hostIds.GetTensorMutableDataAsSpan<long>();
            Span<long> mask = _hostMask.GetTensorMutableDataAsSpan<long>();
            mask.Clear();
            for (int row = 0; row < tokens.Length; row++)
            {
                _batch.Check(lengths[row] + 1);
                ids[row] = tokens[row];
                mask.Slice(row * _batch.Capacity, lengths[row] + 1).Fill(1);
            }

            _batch._memory.Copy(_hostIds, _ids);
            _batch._memory.Copy(_hostMask, _mask);
            if (_batch._poisons)
            {
                _batch._memory.Fill(_logits, _batch._shape.LogitsType, 0xFF, LogitsShape);
            }
        }

        public void Run() => _batch.Run(_options, _binding);

        public OrtValue CopyLogits()
        {
            OrtValue copy = DeviceMemory.AllocateHost(_batch._shape.LogitsType, LogitsShape);
            _batch._memory.Copy(_logits, copy);
            return copy;
        }

        public void Dispose()
        {
            _binding.Dispose();
            _options.Dispose();
            foreach (OrtValue value in _owned)
            {
                value.Dispose();
            }
        }

        private long[] LogitsShape => [_batch.Rows, 1, _batch._shape.VocabularySize];
    }
}
