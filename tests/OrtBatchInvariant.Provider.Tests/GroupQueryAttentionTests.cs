using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Models.Onnx;
using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>GroupQueryAttention: prompts, decode steps and continuations, with separate and with shared caches.</summary>
public sealed class GroupQueryAttentionTests(ITestOutputHelper output)
{
    private const int Heads = 4;
    private const int KvHeads = 2;
    private const int HeadSize = 32;
    private const int Positions = 256;
    private const int Hidden = Heads * HeadSize;
    private const int KvHidden = KvHeads * HeadSize;

    private static readonly string[] s_withCache = ["y", "present_key", "present_value"];

    private static readonly Dictionary<string, OpCase> s_cases = new()
    {
        ["prompt"] = Case(sequence: 9, past: 0),
        ["prompt, packed QKV"] = Case(9, 0, packed: true),
        ["prompt, rotary"] = Case(9, 0, rotary: true),
        ["prompt, rotary interleaved, packed QKV"] = Case(9, 0, packed: true, rotary: true, attributes: ("rotary_interleaved", 1)),
        ["prompt, rotary over part of the head"] = Case(9, 0, rotary: true, rotaryDim: 16),
        ["prompt, not causal"] = Case(9, 0, attributes: ("causal", 0)),
        ["prompt over two blocks of keys"] = Case(150, 0, rotary: true),
        ["prompt, window"] = Case(21, 0, rotary: true, attributes: ("local_window_size", 5)),
        ["prompt, softcap"] = Case(9, 0, attributes: ("softcap", 3f)),
        ["prompt, scale"] = Case(9, 0, attributes: ("scale", 0.7f)),
        ["prompt, smooth softmax"] = Case(9, 0, attributes: ("smooth_softmax", 1)),
        ["prompt, sinks"] = Case(9, 0, more: Extra(headSink: Weight("head_sink", Heads))),
        ["prompt, bias"] = Case(9, 0, more: Extra(bias: Rows("attention_bias", [1, Heads, 9, 9]))),
        ["prompt, bias of one row and one head"] = Case(9, 0, more: Extra(bias: Shared("attention_bias", 1, 1, 9, 9))),
        ["prompt, one key and value head a query head"] = Case(9, 0, kvHeads: Heads),
        ["decode"] = Case(1, 30),
        ["decode, packed QKV, rotary"] = Case(1, 30, packed: true, rotary: true),
        ["decode over two blocks of keys"] = Case(1, 140, rotary: true),
        ["decode, window, softcap and sinks"] =
            Case(1, 30, rotary: true, more: Extra(headSink: Weight("head_sink", Heads)), attributes: [("local_window_size", 8), ("softcap", 5f)]),
        ["decode, bias"] = Case(1, 30, more: Extra(bias: Rows("attention_bias", [1, Heads, 1, 31]))),
        ["decode, position_ids"] = Case(1, 30, rotary: true, more: Extra(positions: EachRow("position_ids", random => Tensor.Of([1, 1], random.NextInt64(Positions))))),
        ["decode, rows of other lengths"] = Case(1, 30, rotary: true, ragged: true) with { StockOutputs = 1 },
        ["decode, rows of other lengths, window"] = Case(1, 30, ragged: true, attributes: ("local_window_size", 4)) with { StockOutputs = 1 },
        ["prompt, rows of other lengths, right-padded"] = Case(9, 0, rotary: true, ragged: true) with { StockOutputs = 0 },
        ["continuation"] = Case(4, 30, rotary: true) with { StockOutputs = 0 },
        ["continuation, rows of other lengths, window"] = Case(4, 30, packed: true, ragged: true, attributes: ("local_window_size", 6)) with { StockOutputs = 0 },
        ["decode, cache of windows"] = Windowed(1, 30, 8) with { StockOutputs = 1 },
        ["decode, cache of windows, rows of other lengths"] = Windowed(1, 30, 8, ragged: true) with { StockOutputs = 1 },
        ["continuation, cache of windows"] = Windowed(4, 30, 6) with { StockOutputs = 0 },
        ["scores before the softmax"] = Case(1, 30, qkOutput: 1),
        ["scores after the softmax"] = Case(1, 30, qkOutput: 2),
    };

    public static TheoryData<string> Cases => [.. s_cases.Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Op(string name) => Checks.All(s_cases[name], output);

    /// <summary>The stock kernel takes a continuation of one batch row only, so that the cases above have no judge.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ContinuationOfOneRow(bool packed)
    {
        OpCase op = Case(4, 30, packed, rotary: true);
        Checks.All(op with { Inputs = [.. op.Inputs.Select(input => input is null ? null : input with { RowAxis = -1 })], Outputs = [.. op.Outputs.Select(result => result! with { RowAxis = -1 })] }, output);
    }

    /// <summary>No stock CPU kernel norms q and k inside; the same graph with the norm outside is the judge.</summary>
    [Fact]
    public void NormOfQueryAndKeyInside()
    {
        OpCase op = Case(9, 0, rotary: true, more: Extra(qNorm: Weight("q_norm", HeadSize), kNorm: Weight("k_norm", HeadSize))) with
        {
            StockOutputs = 0,
            Attributes = [.. Case(9, 0, rotary: true).Attributes, ("qk_norm_epsilon", 1e-5f)],
        };
        Checks.All(op, output);

        Random random = Checks.Seeded(output);
        Tensor[] values = op.Values(random, 3);
        ModelProto model = ModelProto.Parser.ParseFrom(op.Model(values));
        NodeProto attention = model.Graph.Node[0];
        attention.Input[14] = attention.Input[15] = "";
        model.Graph.Initializer.Add(Graphs.Initializer("split", Tensor.Of([4], 0L, 0L, -1L, HeadSize)));
        model.Graph.Initializer.Add(Graphs.Initializer("join", Tensor.Of([3], 0L, 0L, -1L)));
        for (int i = 0; i < 2; i++)
        {
            string name = attention.Input[i];
            model.Graph.Node.Insert(0, Graphs.Node($"join_{i}", "Reshape", "", [$"{name}_norm", "join"], [$"{name}_flat"]));
            model.Graph.Node.Insert(
                0, Graphs.Node($"norm_{i}", "SimplifiedLayerNormalization", "", [$"{name}_heads", i == 0 ? "q_norm" : "k_norm"], [$"{name}_norm"], ("epsilon", 1e-5f)));
            model.Graph.Node.Insert(0, Graphs.Node($"split_{i}", "Reshape", "", [name, "split"], [$"{name}_heads"]));
            attention.Input[i] = $"{name}_flat";
        }

        using InferenceSession outside = Sessions.Stock(Google.Protobuf.MessageExtensions.ToByteArray(model));
        using InferenceSession ours = Sessions.Ours(op.Model(values));
        Checks.Close(
            Checks.Run(outside, op.Feeds(values), op.OutputNames), Sessions.Run(ours, op.Feeds(values), op.OutputNames), op with { StockOutputs = 3 }, output);
    }

    /// <summary>
    /// A whole sequence as one prompt, against a prompt and steps of one token (decode) or several (chunked prefill), over caches that
    /// grow or that one buffer holds.
    /// </summary>
    [Theory]
    [InlineData(false, false, 1)]
    [InlineData(true, false, 1)]
    [InlineData(false, true, 1)]
    [InlineData(true, true, 1)]
    [InlineData(false, false, 5)]
    [InlineData(true, true, 5)]
    public void PromptAndStepsGiveTheSameBytes(bool packed, bool sharedBuffer, int stepTokens)
    {
        (Tensor[] whole, Tensor[] stepwise, Tensor[] stock) = WholeAndStepwise(packed, sharedBuffer, stepTokens, Sessions.Ours);
        Checks.Same(whole, stepwise).ExpectNone(output, "one prompt against steps");
        Checks.Close(stock, whole, s_cases["prompt"], output);
    }

    /// <summary>The proof that the test above can fail.</summary>
    [Fact]
    public void StockPromptAndDecodeDiffer()
    {
        (Tensor[] whole, Tensor[] stepwise, _) = WholeAndStepwise(packed: false, sharedBuffer: false, stepTokens: 1, Sessions.Stock);
        Checks.Same(whole, stepwise).ExpectSome(output, "stock kernel, one prompt against steps");
    }

    /// <summary>Buffers of other capacities, with NaN behind the valid slots.</summary>
    [Fact]
    public void CapacityOfTheSharedBufferDoesNotMatter()
    {
        Random random = Checks.Seeded(output);
        OpCase step = Case(1, 20, rotary: true);
        Tensor[] values = step.Values(random, 3);
        using InferenceSession session = Sessions.Ours(step.Model(values, anyShape: true));
        (string Name, Tensor Value)[] feeds = step.Feeds(values);
        Tensor[] expected = Sessions.Run(session, feeds, step.OutputNames);
        var comparison = new Comparison();
        foreach (int capacity in (int[])[21, 22, 64, 300])
        {
            using var buffers = new SharedBuffers(random, 3, capacity);
            buffers.Fill(feeds.Single(feed => feed.Name == "past_key").Value, feeds.Single(feed => feed.Name == "past_value").Value);
            comparison.Add(expected[0], buffers.Run(session, [.. feeds.Where(feed => !feed.Name.StartsWith("past_", StringComparison.Ordinal))]));
            comparison.Add(expected[1], Sessions.FromValue(buffers.Key).Slice(2, 0, 21));
            comparison.Add(expected[2], Sessions.FromValue(buffers.Value).Slice(2, 0, 21));
        }

        comparison.ExpectNone(output, "capacities 21, 22, 64 and 300 against separate past and present");
    }

    private static OpCase Windowed(int sequence, int past, int window, bool ragged = false) =>
        Case(sequence, past, rotary: true, ragged: ragged, attributes: [("local_window_size", window), ("sliding_window_cache", 1)]);

    internal static OpCase Case(
        int sequence,
        int past,
        bool packed = false,
        bool rotary = false,
        bool ragged = false,
        int kvHeads = KvHeads,
        int rotaryDim = HeadSize,
        int qkOutput = 0,
        Operand?[]? more = null,
        params (string, object)[] attributes)
    {
        int total = past + sequence;
        int kvHidden = kvHeads * HeadSize;

        // A step has 0 to `past` tokens behind it, a right-padded prompt 1 to `sequence` tokens.
        Operand lengths = EachRow("seqlens_k", random => Tensor.Of([1], ragged ? random.Next(past > 0 ? sequence - 1 : 0, total) : total - 1));
        Operand?[] inputs =
        [
            Rows("query", [1, sequence, packed ? Hidden + (2 * kvHidden) : Hidden]),
            packed ? null : Rows("key", [1, sequence, kvHidden]),
            packed ? null : Rows("value", [1, sequence, kvHidden]),
            past > 0 ? Rows("past_key", [1, kvHeads, past, HeadSize]) with { IsAnyShape = true } : null,
            past > 0 ? Rows("past_value", [1, kvHeads, past, HeadSize]) with { IsAnyShape = true } : null,
            lengths,
            Given("total_sequence_length", Tensor.Of([1], total)),
            rotary ? Weight("cos", Positions, rotaryDim / 2) : null,
            rotary ? Weight("sin", Positions, rotaryDim / 2) : null,
            .. more ?? [],
        ];
        return new("GroupQueryAttention", "attention.f32.v3", inputs)
        {
            Domain = "com.microsoft",
            Attributes = [("num_heads", Heads), ("kv_num_heads", kvHeads), ("do_rotary", rotary ? 1 : 0), ("qk_output", qkOutput), .. attributes],
            Outputs = [new("y"), new("present_key"), new("present_value"), .. qkOutput > 0 ? (Result[])[new("scores")] : []],
        };
    }

    /// <summary>Inputs 9 to 15.</summary>
    internal static Operand?[] Extra(
        Operand? positions = null, Operand? bias = null, Operand? headSink = null, Operand? kScale = null, Operand? vScale = null, Operand? qNorm = null, Operand? kNorm = null) =>
        [positions, bias, headSink, kScale, vScale, qNorm, kNorm];

    /// <summary>
    /// 40 tokens of 2 rows at once; then the first 27 at once and the others in steps. Returns the outputs of the last 13 tokens and
    /// the caches, and what the stock kernel gives at once.
    /// </summary>
    private (Tensor[] Whole, Tensor[] Stepwise, Tensor[] Stock) WholeAndStepwise(
        bool packed, bool sharedBuffer, int stepTokens, Func<byte[], InferenceSession> open)
    {
        const int Rows = 2;
        const int Tokens = 40;
        const int First = 27;
        Random random = Checks.Seeded(output);
        OpCase whole = Case(Tokens, 0, packed, rotary: true);
        OpCase step = Case(1, Tokens, packed, rotary: true);
        Tensor[] values = whole.Values(random, Rows);
        Tensor[] tokens = values[..(packed ? 1 : 3)];
        Tensor[] rotary = values[^2..];
        Tensor[] stepValues = [.. step.Values(random, Rows)[..^2], .. rotary];

        using InferenceSession session = open(whole.Model(values, anyShape: true));
        using InferenceSession stepSession = open(step.Model(stepValues, anyShape: true));
        using InferenceSession stock = Sessions.Stock(whole.Model(values, anyShape: true));
        Tensor[] atOnce = Checks.Run(session, whole.Feeds(values), s_withCache);

        using SharedBuffers? buffers = sharedBuffer ? new SharedBuffers(random, Rows, Tokens + 5) : null;
        Tensor[] cache = [];
        var lastTokens = new Tensor(atOnce[0].Type, [Rows, Tokens - First, Hidden], new byte[atOnce[0].Bytes.Length / Tokens * (Tokens - First)]);
        for (int done = 0; done < Tokens;)
        {
            int count = done == 0 ? First : Math.Min(stepTokens, Tokens - done);
            (string, Tensor)[] feeds =
            [
                .. whole.Feeds(values).Take(tokens.Length).Select(feed => (feed.Item1, feed.Item2.Slice(1, done, count))),
                ("seqlens_k", Tensor.Of([Rows], [.. Enumerable.Repeat(done + count - 1, Rows)])),
                ("total_sequence_length", Tensor.Of([1], done + count)),
            ];
            Tensor y;
            if (buffers is not null)
            {
                y = buffers.Run(stepSession, feeds);
            }
            else
            {
                Tensor[] results = done == 0
                    ? Checks.Run(session, feeds, s_withCache)
                    : Checks.Run(stepSession, [.. feeds, ("past_key", cache[0]), ("past_value", cache[1])], s_withCache);
                y = results[0];
                cache = results[1..];
            }

            if (done > 0)
            {
                lastTokens.Place(1, done - First, y);
            }

            done += count;
        }

        if (buffers is not null)
        {
            cache = [Sessions.FromValue(buffers.Key).Slice(2, 0, Tokens), Sessions.FromValue(buffers.Value).Slice(2, 0, Tokens)];
        }

        Tensor[] stockAtOnce = Checks.Run(stock, whole.Feeds(values), s_withCache);
        return (
            [atOnce[0].Slice(1, First, Tokens - First), atOnce[1], atOnce[2]],
            [lastTokens, .. cache],
            [stockAtOnce[0].Slice(1, First, Tokens - First), stockAtOnce[1], stockAtOnce[2]]);
    }

    /// <summary>A key and a value cache that are past and present at once, NaN where nothing was written.</summary>
    private sealed class SharedBuffers : IDisposable
    {
        internal SharedBuffers(Random random, int rows, int capacity)
        {
            Tensor empty = Tensor.Floats(random, 1, rows, KvHeads, capacity, HeadSize);
            Array.Fill(empty.Bytes, (byte)0xFF);
            Key = Sessions.ToValue(empty);
            Value = Sessions.ToValue(empty);
        }

        internal OrtValue Key { get; }

        internal OrtValue Value { get; }

        internal void Fill(Tensor key, Tensor value)
        {
            foreach ((OrtValue buffer, Tensor past) in (ReadOnlySpan<(OrtValue, Tensor)>)[(Key, key), (Value, value)])
            {
                Tensor filled = Sessions.FromValue(buffer);
                filled.Place(2, 0, past);
                filled.Bytes.CopyTo(buffer.GetTensorMutableRawData());
            }
        }

        internal Tensor Run(InferenceSession session, (string Name, Tensor Value)[] feeds)
        {
            using OrtIoBinding binding = session.CreateIoBinding();
            OrtValue[] inputs = [.. feeds.Select(feed => Sessions.ToValue(feed.Value))];
            try
            {
                for (int i = 0; i < feeds.Length; i++)
                {
                    binding.BindInput(feeds[i].Name, inputs[i]);
                }

                binding.BindInput("past_key", Key);
                binding.BindInput("past_value", Value);
                binding.BindOutputToDevice("y", OrtMemoryInfo.DefaultInstance);
                binding.BindOutput("present_key", Key);
                binding.BindOutput("present_value", Value);
                using var options = new RunOptions();
                session.RunWithBinding(options, binding);
                using IDisposableReadOnlyCollection<OrtValue> outputs = binding.GetOutputValues();
                return Sessions.FromValue(outputs[0]);
            }
            finally
            {
                Array.ForEach(inputs, input => input.Dispose());
            }
        }

        public void Dispose()
        {
            Key.Dispose();
            Value.Dispose();
        }
    }
}
