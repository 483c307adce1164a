using Xunit.Abstractions;
using static OrtBatchInvariant.Provider.Tests.Operand;

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>MultiHeadAttention, and Attention of opsets 23 and 24.</summary>
public sealed class AttentionTests(ITestOutputHelper output)
{
    private const int Heads = 4;
    private const int KvHeads = 2;
    private const int HeadSize = 12;
    private const int ValueSize = 10;
    private const int Sequence = 7;
    private const int Past = 11;
    private const int Hidden = Heads * HeadSize;

    private static readonly string[] s_withCache = ["y", "present_key", "present_value"];

    private static readonly Dictionary<string, OpCase> s_multiHead = new()
    {
        ["separate"] = MultiHead(Qkv(Sequence)),
        ["other keys than queries"] = MultiHead(Qkv(13)),
        ["other value size"] = MultiHead(Qkv(Sequence, ValueSize)),
        ["unidirectional, scale"] = MultiHead(Qkv(Sequence), ("unidirectional", 1), ("scale", 0.3f)),
        ["over two blocks of keys"] = MultiHead(Qkv(150)),
        ["bias"] = MultiHead([.. Qkv(Sequence), Weight("bias", 3 * Hidden)]),
        ["key and value by head"] = MultiHead([Rows("query", [1, Sequence, Hidden]), Rows("key", [1, Heads, 13, HeadSize]), Rows("value", [1, Heads, 13, HeadSize])]),
        ["packed KV"] = MultiHead([Rows("query", [1, Sequence, Hidden]), Rows("key", [1, 13, Heads, 2, HeadSize])]) with
        {
            StockForm = MultiHead(Qkv(13)),
            ToStockForm = inputs => [inputs[0], Part(inputs[1], 0), Part(inputs[1], 1)],
        },
        ["packed QKV"] = MultiHead([Rows("query", [1, Sequence, Heads, 3, HeadSize])]) with
        {
            StockForm = MultiHead(Qkv(Sequence)),
            ToStockForm = inputs => [Part(inputs[0], 0), Part(inputs[0], 1), Part(inputs[0], 2)],
        },
        ["mask of lengths"] = MultiHead([.. Qkv(Sequence), null, Ints("mask", random => random.Next(1, Sequence + 1), 1)]),
        ["mask of keys"] = MultiHead([.. Qkv(Sequence), null, Mask(Sequence)]),
        ["mask of queries and keys"] = MultiHead([.. Qkv(Sequence), null, Mask(Sequence, Sequence)]),
        ["mask of keys, filter value that leaves them in"] = MultiHead([.. Qkv(Sequence), null, Mask(Sequence)], ("mask_filter_value", -2f)),
        ["mask of queries and keys, filter value and attention bias"] = MultiHead(
            [.. Qkv(Sequence), null, Mask(Sequence, Sequence), Rows("attention_bias", [1, Heads, Sequence, Sequence])], ("mask_filter_value", -2f)),
        ["attention bias"] = MultiHead([.. Qkv(Sequence), null, null, Rows("attention_bias", [1, Heads, Sequence, Sequence])]),
        ["attention bias of one row and head"] = MultiHead([.. Qkv(Sequence), null, null, Shared("attention_bias", 1, 1, Sequence, Sequence)]),
        ["past"] = MultiHead([.. Qkv(Sequence), null, null, null, .. PastOf(Heads, HeadSize)]) with { Outputs = Results(s_withCache) },
        ["past, one token, mask and attention bias"] = MultiHead(
        [
            Rows("query", [1, 1, Hidden]), Rows("key", [1, 1, Hidden]), Rows("value", [1, 1, Hidden]), Weight("bias", 3 * Hidden),
            Mask(Past + 1), Rows("attention_bias", [1, Heads, 1, Past + 1]), .. PastOf(Heads, HeadSize),
        ]) with { Outputs = Results(s_withCache) },
        ["past, unidirectional"] =
            MultiHead([.. Qkv(Sequence), null, null, null, .. PastOf(Heads, HeadSize)], ("unidirectional", 1)) with { Outputs = Results(s_withCache) },
        ["scores"] = MultiHead(Qkv(Sequence)) with { Outputs = Results("y", "present_key", "present_value", "scores") },
    };

    private static readonly Dictionary<string, OpCase> s_onnx = new()
    {
        ["rank 4"] = Onnx(ByHead(Heads, Sequence)),
        ["rank 4, groups of query heads, other value size"] = Onnx(ByHead(KvHeads, Sequence, ValueSize)),
        ["rank 3"] = Onnx(Flat(), ("q_num_heads", Heads), ("kv_num_heads", KvHeads)),
        ["causal"] = Onnx(ByHead(KvHeads, Sequence), ("is_causal", 1)),
        ["causal over two blocks of keys"] = Onnx(
            [Rows("q", [1, Heads, 150, HeadSize]), Rows("k", [1, KvHeads, 150, HeadSize]), Rows("v", [1, KvHeads, 150, HeadSize])], ("is_causal", 1)),
        ["causal, more keys than queries"] = Onnx(ByHead(KvHeads, 13), ("is_causal", 1)),
        ["causal, fewer keys than queries"] = Onnx(ByHead(KvHeads, 4), ("is_causal", 1)),
        ["scale and softcap"] = Onnx(ByHead(KvHeads, Sequence), ("scale", 0.4f), ("softcap", 2f)),
        ["mask to add, every row and head"] = Onnx([.. ByHead(KvHeads, Sequence), Rows("mask", [1, Heads, Sequence, Sequence])]),
        ["mask to add, rank 2"] = Onnx([.. ByHead(KvHeads, Sequence), Shared("mask", Sequence, Sequence)]),
        ["mask to add, one head"] = Onnx([.. ByHead(KvHeads, Sequence), Rows("mask", [1, 1, Sequence, Sequence])], ("is_causal", 1)),
        ["mask of booleans"] = Onnx([.. ByHead(KvHeads, Sequence), Bools("mask", 1, 1, Sequence, Sequence)]),
        ["mask of booleans, rank 2"] = Onnx([.. ByHead(KvHeads, Sequence), SharedBools("mask", Sequence, Sequence)]),
        ["mask of one column"] = WithRepeatedColumn([.. ByHead(KvHeads, Sequence), Rows("mask", [1, Heads, Sequence, 1])]),
        ["mask of one column of booleans"] = WithRepeatedColumn([.. ByHead(KvHeads, Sequence), AllTrue("mask", 1, Sequence, 1)]),
        ["past"] = Onnx([.. ByHead(KvHeads, Sequence), null, .. PastOf(KvHeads, HeadSize)], ("is_causal", 1)) with { Outputs = Results(s_withCache) },
        ["past, one token, rank 3"] = Onnx(
            [
                Rows("q", [1, 1, Hidden]), Rows("k", [1, 1, KvHeads * HeadSize]), Rows("v", [1, 1, KvHeads * HeadSize]),
                Rows("mask", [1, 1, 1, Past + 1]), .. PastOf(KvHeads, HeadSize),
            ],
            ("q_num_heads", Heads),
            ("kv_num_heads", KvHeads)) with { Outputs = Results(s_withCache) },
        ["scores, mode 0"] = Scores(0),
        ["scores, mode 1"] = Scores(1),
        ["scores, mode 2"] = Scores(2),
        ["scores, mode 3"] = Scores(3),
    };

    private static readonly Dictionary<string, OpCase> s_onnx24 = new()
    {
        ["mask of fewer keys"] = Onnx([.. ByHead(KvHeads, Sequence), Rows("mask", [1, 1, Sequence, 5])]) with
        {
            Opset = 24,
            StockForm = Onnx([.. ByHead(KvHeads, Sequence), Rows("mask", [1, 1, Sequence, Sequence])]) with { Opset = 24 },
            ToStockForm = inputs => [.. inputs[..3], WithExcludedKeys(inputs[3], Sequence)],
        },
        ["nonpad_kv_seqlen"] = Onnx([.. ByHead(KvHeads, 16), null, null, null, Lengths(16)]) with { Opset = 24 },
        ["nonpad_kv_seqlen, causal"] =
            Onnx([.. ByHead(KvHeads, 16), null, null, null, Lengths(16)], ("is_causal", 1)) with { Opset = 24 },
    };

    private static readonly Dictionary<string, OpCase> s_packed = new()
    {
        ["plain"] = PackedQkv([]),
        ["unidirectional, scale"] = PackedQkv([], ("unidirectional", 1), ("scale", 0.3f)),
        ["other input size"] = PackedQkv([], inputSize: 20),
        ["other value size"] = PackedQkv([], valueSize: ValueSize, attributes: ("qkv_hidden_sizes", new long[] { Hidden, Hidden, Heads * ValueSize })),
        ["mask of lengths"] = PackedQkv([Ints("mask", random => random.Next(1, Sequence + 1), 1)]),
        ["mask of keys"] = PackedQkv([Mask(Sequence)]),
        ["mask of keys, filter value that leaves them in"] = PackedQkv([Mask(Sequence)], ("mask_filter_value", -2f)),
        ["mask of keys, unidirectional"] = PackedQkv([Mask(Sequence)], ("unidirectional", 1)),
        ["mask of queries and keys"] = PackedQkv([Mask(Sequence, Sequence)]),
        ["square mask"] = PackedQkv([Mask(1, Past + Sequence, Past + Sequence), .. PackedPast()]) with
        {
            Outputs = [new("y"), new("present", 1)],
            StockForm = PackedQkv([Mask(Sequence, Past + Sequence), .. PackedPast()]) with { Outputs = [new("y"), new("present", 1)] },
            ToStockForm = values => [.. values[..3], values[3].Slice(2, Past, Sequence).Reshape(values[0].Shape[0], Sequence, Past + Sequence), values[4]],
        },
        ["one value for all keys"] = PackedQkv([Operand.Given("mask", Tensor.Of([1, 1], 1))]),
        ["attention bias"] = PackedQkv([null, null, Rows("attention_bias", [1, Heads, Sequence, Sequence])]),
        ["past"] = PackedQkv([null, .. PackedPast()], ("unidirectional", 1)) with { Outputs = [new("y"), new("present", 1)] },
        ["past and mask of keys"] = PackedQkv([Mask(Past + Sequence), .. PackedPast()], ("unidirectional", 1)) with { Outputs = [new("y"), new("present", 1)] },
        ["present without a past"] = PackedQkv([]) with { Outputs = [new("y"), new("present", 1)] },
        ["weights that are computed"] = PackedQkv([], isConstant: false),
    };

    public static TheoryData<string> PackedCases => [.. s_packed.Keys];

    public static TheoryData<string> MultiHeadCases => [.. s_multiHead.Keys];

    public static TheoryData<string, int> OnnxCases
    {
        get
        {
            var cases = new TheoryData<string, int>();
            foreach (string name in s_onnx.Keys)
            {
                cases.Add(name, 23);

                // Opset 24 reads one column as a mask that is short.
                if (!name.StartsWith("mask of one column", StringComparison.Ordinal))
                {
                    cases.Add(name, 24);
                }
            }

            return cases;
        }
    }

    public static TheoryData<string> Onnx24Cases => [.. s_onnx24.Keys];

    [Theory]
    [MemberData(nameof(MultiHeadCases))]
    public void MultiHeadAttention(string name) => Checks.All(s_multiHead[name], output);

    [Theory]
    [MemberData(nameof(PackedCases))]
    public void PackedAttention(string name) => Checks.All(s_packed[name], output);

    /// <summary>Keys from an end on and before a start are masked: the same as a mask of keys.</summary>
    [Fact]
    public void PackedAttentionWithAMaskOfEndsAndStarts()
    {
        const int Rows = 3;
        Random random = Checks.Seeded(output);
        OpCase op = s_packed["mask of keys"];
        Tensor[] values = op.Values(random, Rows);
        int[] ends = [Sequence, Sequence - 1, 3];
        int[] starts = [2, 0, 1];
        int[] keys = [.. Enumerable.Range(0, Rows * Sequence).Select(i => i % Sequence < ends[i / Sequence] && i % Sequence >= starts[i / Sequence] ? 1 : 0)];
        Tensor[] asKeys = [.. values[..^1], Tensor.Of([Rows, Sequence], keys)];
        Tensor[] asEnds = [.. values[..^1], Tensor.Of([2 * Rows], [.. ends, .. starts])];
        using var ours = Sessions.Ours(op.Model(asKeys));
        using var oursWithEnds = Sessions.Ours(op.Model(asEnds));
        Checks.Same(Sessions.Run(ours, op.Feeds(asKeys), ["y"]), Sessions.Run(oursWithEnds, op.Feeds(asEnds), ["y"]))
            .ExpectNone(output, "mask of ends and starts against mask of keys");
    }

    /// <summary>A mask of lengths, sums and starts: its first part is the lengths.</summary>
    [Fact]
    public void MultiHeadAttentionWithAMaskOfLengthsAndStarts()
    {
        const int Rows = 3;
        Random random = Checks.Seeded(output);
        OpCase lengths = s_multiHead["mask of lengths"];
        Tensor[] values = lengths.Values(random, Rows);
        int[] first = values[^1].As<int>().ToArray();
        Tensor[] longer = [.. values[..^1], Tensor.Of([(3 * Rows) + 2], [.. first, .. new int[(2 * Rows) + 2]])];
        using var ours = Sessions.Ours(lengths.Model(values, anyShape: true));
        Checks.Same(Sessions.Run(ours, lengths.Feeds(values), ["y"]), Sessions.Run(ours, lengths.Feeds(longer), ["y"]))
            .ExpectNone(output, "mask of [batch] against mask of [3 * batch + 2]");
    }

    /// <summary>Where no key takes part the result is zero, as ONNX says; ONNX Runtime's MultiHeadAttention gives the mean of the values.</summary>
    [Fact]
    public void QueryWithoutAnyKeyGivesZeros()
    {
        Random random = Checks.Seeded(output);
        var booleans = new Operand("mask", 0, false, (_, rows) => Tensor.Of([rows, 1, Sequence, Sequence], new bool[rows * Sequence * Sequence]));
        var integers = new Operand("mask", 0, false, (_, rows) => Tensor.Of([rows, Sequence], new int[rows * Sequence]));
        foreach (OpCase op in (OpCase[])[Onnx([.. ByHead(KvHeads, Sequence), booleans]), MultiHead([.. Qkv(Sequence), null, integers])])
        {
            Tensor[] values = op.Values(random, 3);
            using var ours = Sessions.Ours(op.Model(values));
            Tensor y = Sessions.Run(ours, op.Feeds(values), op.OutputNames)[0];
            Checks.Same([y with { Bytes = new byte[y.Bytes.Length] }], [y]).ExpectNone(output, op.Op);
        }
    }

    [Theory]
    [MemberData(nameof(OnnxCases))]
    public void Attention(string name, int opset) => Checks.All(s_onnx[name] with { Opset = opset }, output);

    [Theory]
    [MemberData(nameof(Onnx24Cases))]
    public void Attention24(string name) => Checks.All(s_onnx24[name], output);

    internal static OpCase MultiHead(Operand?[] inputs, params (string, object)[] attributes) =>
        new("MultiHeadAttention", "attention.f32.v3", inputs) { Domain = "com.microsoft", Attributes = [("num_heads", Heads), .. attributes] };

    internal static OpCase PackedQkv(
        Operand?[] optional, (string, object) attributes, params (string, object)[] more) => PackedQkv(optional, 20, HeadSize, true, [attributes, .. more]);

    internal static OpCase PackedQkv(
        Operand?[] optional, int inputSize = 20, int valueSize = HeadSize, bool isConstant = true, params (string, object)[] attributes)
    {
        int columns = (2 * Hidden) + (Heads * valueSize);
        return new(
            "Attention",
            "attention.f32.v3",
            [Rows("input", [1, Sequence, inputSize]), Weight("weights", inputSize, columns) with { IsConstant = isConstant }, Weight("bias", columns), .. optional])
        {
            Domain = "com.microsoft",
            CustomOp = "MicrosoftAttention",
            Attributes = [("num_heads", Heads), .. attributes],
        };
    }

    internal static Operand[] Qkv(int kvSequence, int valueSize = HeadSize) =>
        [Rows("query", [1, Sequence, Hidden]), Rows("key", [1, kvSequence, Hidden]), Rows("value", [1, kvSequence, Heads * valueSize])];

    internal static Operand[] PastOf(int heads, int valueSize) =>
        [Rows("past_key", [1, heads, Past, HeadSize]), Rows("past_value", [1, heads, Past, valueSize])];

    internal static OpCase Onnx(Operand?[] inputs, params (string, object)[] attributes) =>
        new("Attention", "attention.f32.v3", inputs) { Opset = 23, Attributes = attributes };

    internal static Operand[] ByHead(int kvHeads, int kvSequence, int valueSize = HeadSize) =>
        [Rows("q", [1, Heads, Sequence, HeadSize]), Rows("k", [1, kvHeads, kvSequence, HeadSize]), Rows("v", [1, kvHeads, kvSequence, valueSize])];

    private static Operand[] Flat() =>
        [Rows("q", [1, Sequence, Hidden]), Rows("k", [1, 13, KvHeads * HeadSize]), Rows("v", [1, 13, KvHeads * ValueSize])];

    private static Operand[] PackedPast() => [Rows("past", [2, 1, Heads, Past, HeadSize], axis: 1)];

    // Stock has no mask of one column: it gets the column as often as there are keys.
    private static OpCase WithRepeatedColumn(Operand[] inputs) => Onnx(inputs) with
    {
        StockForm = Onnx([.. inputs[..^1], inputs[^1]]),
        ToStockForm = values =>
        {
            Tensor column = values[^1];
            var all = column with { Shape = [.. column.Shape[..^1], Sequence], Bytes = new byte[column.Bytes.Length * Sequence] };
            for (int key = 0; key < Sequence; key++)
            {
                all.Place(column.Shape.Length - 1, key, column);
            }

            return [.. values[..^1], all];
        },
    };

    private static Operand AllTrue(string name, params long[] shape) =>
        EachRow(name, _ => Tensor.Of([1, .. shape], [.. Enumerable.Repeat(true, (int)shape.Aggregate(1L, (product, dimension) => product * dimension))]));

    private static OpCase Scores(int mode) =>
        Onnx(
            [.. ByHead(KvHeads, Sequence), Rows("mask", [1, 1, Sequence, Past + Sequence]), .. PastOf(KvHeads, HeadSize)],
            ("qk_matmul_output_mode", mode),
            ("softcap", 2f)) with { Outputs = Results("y", "present_key", "present_value", "scores") };

    private static Result?[] Results(params string[] names) => [.. names.Select(name => new Result(name))];

    // [batch, tokens, heads, parts, size] at one part, as [batch, tokens, heads * size].
    private static Tensor Part(Tensor packed, int part)
    {
        long[] shape = packed.Shape;
        return packed.Slice(3, part, 1).Reshape(shape[0], shape[1], shape[2] * shape[4]);
    }

    // A mask of -Inf for the keys that it leaves out.
    private static Tensor WithExcludedKeys(Tensor mask, int keys)
    {
        long count = mask.Elements / mask.Shape[3] * keys;
        var wider = Tensor.Of([.. mask.Shape[..3], keys], [.. Enumerable.Repeat(float.NegativeInfinity, (int)count)]);
        wider.Place(3, 0, mask);
        return wider;
    }

    private static Operand Ints(string name, Func<Random, int> value, params long[] shape) => EachRow(
        name, random => Tensor.Of(shape, [.. Enumerable.Range(0, (int)shape.Aggregate(1L, (product, dimension) => product * dimension)).Select(_ => value(random))]));

    // Key 0 always takes part; QueryWithoutAnyKeyGivesZeros is about the other queries.
    private static Operand Mask(params long[] shape)
    {
        return EachRow("mask", random =>
        {
            int[] values = new int[shape.Aggregate(1L, (product, dimension) => product * dimension)];
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = i % shape[^1] == 0 ? 1 : random.Next(2);
            }

            return Tensor.Of([1, .. shape], values);
        });
    }

    private static Operand Bools(string name, params long[] shape) => EachRow(name, random => RandomBools(random, shape));

    private static Operand SharedBools(string name, params long[] shape) => new(name, -1, false, (random, _) => RandomBools(random, shape));

    private static Tensor RandomBools(Random random, long[] shape)
    {
        bool[] values = new bool[shape.Aggregate(1L, (product, dimension) => product * dimension)];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = i % shape[^1] == 0 || random.Next(2) == 0;
        }

        return Tensor.Of(shape, values);
    }

    private static Operand Lengths(int keys) => EachRow("nonpad_kv_seqlen", random => Tensor.Of([1], random.NextInt64(Sequence, keys + 1)));
}
