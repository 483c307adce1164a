using System.Globalization;
using Microsoft.ML.OnnxRuntime;

namespace OrtBatchInvariant.Verification.Device;

/// <content>The step whose inputs and outputs stay where they are.</content>
public sealed partial class DecoderBatch
{
    private sealed class FixedStep : IDisposable
    {
        private readonly DecoderBatch _batch;
        private readonly List<OrtValue> _owned = [];
        private readonly OrtIoBinding _binding;
        private readonly RunOptions _options = new();
        private readonly Dictionary<string, OrtValue> _inputs = [];
        private readonly OrtValue _logits;
        private readonly Input? _ids;
        private readonly Input? _mask;
        private readonly Input? _positions;

        public FixedStep(DecoderBatch batch)
        {
            _batch = batch;
            if (batch._storage is null)
            {
                throw new VerificationException($"{batch._model.Folder.DecoderFile}: its cache grows with every step, so no step has fixed shapes.");
            }

            _binding = batch._model.Session.CreateIoBinding();
            DecoderShape shape = batch._shape;
            _ids = Allocate(shape.InputIds, 1);
            _mask = Allocate(shape.AttentionMask, batch.Capacity);
            _positions = Allocate(shape.PositionIds, 1);
            _logits = Own(batch.AllocateLogits(1, isReused: false), _owned);
            if (batch._model.Options.EnableCudaGraph)
            {
                _options.AddRunConfigEntry("gpu_graph_id", batch._model.NextGraph().ToString(CultureInfo.InvariantCulture));
            }

            batch._cache.Bind(_binding);
            batch.BindExposed(_binding);
            _binding.BindOutput(shape.Logits, _logits);
        }

        /// <summary>The tokens, and how many are in the KV buffer before them.</summary>
        public void Set(ReadOnlySpan<int> tokens, ReadOnlySpan<int> lengths)
        {
            if (tokens.Length != _batch.Rows)
            {
                throw new VerificationException($"{tokens.Length} tokens were given to a batch of {_batch.Rows} rows.");
            }

            long[] ids = new long[tokens.Length];
            long[] positions = new long[tokens.Length];
            long[] mask = new long[tokens.Length * _batch.Capacity];
            for (int row = 0; row < tokens.Length; row++)
            {
                _batch.Check(lengths[row] + 1);
                ids[row] = tokens[row];
                positions[row] = lengths[row];
                mask.AsSpan(row * _batch.Capacity, lengths[row] + 1).Fill(1);
            }

            Write(_ids, ids);
            Write(_mask, mask);
            Write(_positions, positions);
            if (_batch._poisons)
            {
                _batch._memory.Fill(_logits, _batch._shape.LogitsType, 0xFF, LogitsShape);
            }
        }

        public void Run()
        {
            _batch.Run(_options, _binding);
            _batch.TakeOutputs(_binding, _logits, _inputs);
        }

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

        private Input? Allocate(TokenInput? input, int width)
        {
            if (input is null)
            {
                return null;
            }

            var tensors = new Input(
                input,
                Own(_batch._memory.Allocate(input.Type, _batch.Rows, width), _owned),
                Own(DeviceMemory.AllocateHost(input.Type, _batch.Rows, width), _owned));
            _inputs[input.Name] = tensors.Host;
            _binding.BindInput(input.Name, tensors.Device);
            return tensors;
        }

        private void Write(Input? input, long[] values)
        {
            if (input is not null)
            {
                DecoderBatch.Write(input.Host, input.Port.Type, values);
                _batch._memory.Copy(input.Host, input.Device);
            }
        }

        private sealed record Input(TokenInput Port, OrtValue Device, OrtValue Host);
    }
}
