using System.Globalization;
using System.Runtime.InteropServices;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using OrtBatchInvariant.Conversion;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;

// The tests share the process's one registration of the provider.
[assembly: CollectionBehavior(DisableTestParallelization = true)]

namespace OrtBatchInvariant.Provider.Tests;

/// <summary>A tensor as bytes, so that bits are compared as bits.</summary>
internal sealed record Tensor(TensorElementType Type, long[] Shape, byte[] Bytes)
{
    internal long Elements => Shape.Aggregate(1L, (product, dimension) => product * dimension);

    private int ElementBytes => SizeOf(Type);

    internal static Tensor Of<T>(long[] shape, params T[] values)
        where T : unmanaged => new(TypeOf<T>(), shape, MemoryMarshal.AsBytes(values.AsSpan()).ToArray());

    internal static Tensor Floats(Random random, float amplitude, params long[] shape)
    {
        float[] values = new float[shape.Aggregate(1L, (product, dimension) => product * dimension)];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)(((random.NextDouble() * 2) - 1) * amplitude);
        }

        return Of(shape, values);
    }

    internal ReadOnlySpan<T> As<T>()
        where T : unmanaged => MemoryMarshal.Cast<byte, T>(Bytes);

    /// <summary>Floats as halves, to nearest even; any other tensor as it is.</summary>
    internal Tensor ToHalf() => Type != TensorElementType.Float ? this : Of(Shape, [.. As<float>().ToArray().Select(value => (Half)value)]);

    /// <summary>Halves as floats; any other tensor as it is.</summary>
    internal Tensor ToFloat() => Type != TensorElementType.Float16 ? this : Of(Shape, [.. As<Half>().ToArray().Select(value => (float)value)]);

    internal Tensor Reshape(params long[] shape) => this with { Shape = shape };

    /// <summary>Elements [start, start + count) along <paramref name="axis"/>.</summary>
    internal Tensor Slice(int axis, long start, long count)
    {
        long[] shape = [.. Shape];
        shape[axis] = count;
        var slice = new Tensor(Type, shape, new byte[Bytes.Length / Math.Max(1, Shape[axis]) * count]);
        Copy(axis, start, slice, 0, count);
        return slice;
    }

    /// <summary>Overwrites the elements from <paramref name="start"/> on along <paramref name="axis"/> with <paramref name="part"/>.</summary>
    internal void Place(int axis, long start, Tensor part) => part.Copy(axis, 0, this, start, part.Shape[axis]);

    internal static int SizeOf(TensorElementType type) => type switch
    {
        TensorElementType.Int64 or TensorElementType.Double => 8,
        TensorElementType.Float or TensorElementType.Int32 => 4,
        TensorElementType.Float16 => 2,
        TensorElementType.UInt8 or TensorElementType.Int8 or TensorElementType.Bool => 1,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "no test uses this type"),
    };

    internal static TensorElementType TypeOf<T>() => default(T) switch
    {
        float => TensorElementType.Float,
        int => TensorElementType.Int32,
        long => TensorElementType.Int64,
        byte => TensorElementType.UInt8,
        bool => TensorElementType.Bool,
        Half => TensorElementType.Float16,
        _ => throw new ArgumentOutOfRangeException(nameof(T), typeof(T), "no test uses this type"),
    };

    private void Copy(int axis, long from, Tensor target, long to, long count)
    {
        long inner = ElementBytes;
        for (int i = axis + 1; i < Shape.Length; i++)
        {
            inner *= Shape[i];
        }

        long outer = 1;
        for (int i = 0; i < axis; i++)
        {
            outer *= Shape[i];
        }

        for (long i = 0; i < outer; i++)
        {
            Bytes.AsSpan((int)(((i * Shape[axis]) + from) * inner), (int)(count * inner))
                .CopyTo(target.Bytes.AsSpan((int)(((i * target.Shape[axis]) + to) * inner)));
        }
    }
}

/// <summary>An input of a node: a graph input, or a constant.</summary>
/// <param name="Name">Its name in the graph.</param>
/// <param name="RowAxis">The axis along which batch rows lie; -1 when all rows share it.</param>
/// <param name="IsConstant">Whether it is an initializer.</param>
/// <param name="Make">Random values for a number of rows.</param>
internal sealed record Operand(string Name, int RowAxis, bool IsConstant, Func<Random, int, Tensor> Make)
{
    /// <summary>Whether the model leaves all dimensions open, not only that of the rows.</summary>
    internal bool IsAnyShape { get; init; }

    /// <summary>Values in [-1, 1] (or up to <paramref name="amplitude"/>); <paramref name="shape"/> is that of one batch row.</summary>
    internal static Operand Rows(string name, long[] shape, int axis = 0, float amplitude = 1) => new(name, axis, false, (random, rows) =>
    {
        long[] full = [.. shape];
        full[axis] *= rows;
        return Tensor.Floats(random, amplitude, full);
    });

    /// <summary>Values in [0, 2], whose sum does not cancel, so that a difference from it has a scale.</summary>
    internal static Operand Positive(string name, params long[] shape) => new(name, -1, false, (random, _) =>
    {
        Tensor values = Tensor.Floats(random, 1, shape);
        return Tensor.Of(shape, [.. values.As<float>().ToArray().Select(value => value + 1)]);
    });

    internal static Operand Shared(string name, params long[] shape) => new(name, -1, false, (random, _) => Tensor.Floats(random, 1, shape));

    internal static Operand Weight(string name, params long[] shape) => new(name, -1, true, (random, _) => Tensor.Floats(random, 1, shape));

    internal static Operand Constant(string name, Tensor value) => new(name, -1, true, (_, _) => value);

    internal static Operand Given(string name, Tensor value) => new(name, -1, false, (_, _) => value);

    /// <summary>Rows along axis 0, each made by <paramref name="one"/> with the shape of a batch of 1.</summary>
    internal static Operand EachRow(string name, Func<Random, Tensor> one) => new(name, 0, false, (random, rows) =>
    {
        Tensor first = one(random);
        long[] shape = [.. first.Shape];
        shape[0] *= rows;
        return new(first.Type, shape, [.. Enumerable.Range(0, rows).SelectMany(row => (row == 0 ? first : one(random)).Bytes)]);
    });
}

/// <summary>An output of a node; see <see cref="Operand"/> for the row axis.</summary>
internal sealed record Result(string Name, int RowAxis = 0, TensorElementType Type = TensorElementType.Float);

/// <summary>One node with its inputs and outputs: a row in the table of a test.</summary>
/// <param name="Op">The op's name.</param>
/// <param name="Contract">The contract that the coverage report must name.</param>
/// <param name="Inputs">Null for one that is left out.</param>
internal sealed record OpCase(string Op, string Contract, params Operand?[] Inputs)
{
    internal string Domain { get; init; } = "";

    internal int Opset { get; init; } = 21;

    internal (string Name, object Value)[] Attributes { get; init; } = [];

    internal Result?[] Outputs { get; init; } = [new("y")];

    /// <summary>The name in the custom-op domain; null when this form is not offered there.</summary>
    internal string? CustomOp { get; init; } = "";

    /// <summary>The largest difference from the stock kernel, relative to the largest output: what fp32 rounding explains.</summary>
    internal double Tolerance { get; init; } = 4e-6;

    /// <summary>How many of the outputs the stock kernel defines everywhere.</summary>
    internal int StockOutputs { get; init; } = int.MaxValue;

    /// <summary>The same computation in a form that the stock CPU kernel has, where it lacks this one.</summary>
    internal OpCase? StockForm { get; init; }

    internal Func<Tensor[], Tensor[]> ToStockForm { get; init; } = inputs => inputs;

    /// <summary>Gives the outputs of <see cref="StockForm"/> the shapes of this form's.</summary>
    internal Func<Tensor[], Tensor[]> ToOurForm { get; init; } = results => results;

    internal bool IsRowWise => Outputs[0]!.RowAxis >= 0;

    /// <summary>Values of every input that is there, for a number of batch rows.</summary>
    internal Tensor[] Values(Random random, int rows) => [.. Present.Select(input => input.Make(random, rows))];

    internal IEnumerable<Operand> Present => Inputs.OfType<Operand>();

    internal string[] OutputNames => [.. Outputs.OfType<Result>().Select(output => output.Name)];

    /// <summary>The inputs of the model, named: those that are no constants.</summary>
    internal (string, Tensor)[] Feeds(Tensor[] values) =>
        [.. Present.Zip(values).Where(pair => !pair.First.IsConstant).Select(pair => (pair.First.Name, pair.Second))];

    /// <summary>The model, with the constants among <paramref name="values"/> in it.</summary>
    /// <param name="values">What <see cref="Values"/> made.</param>
    /// <param name="custom">Whether the node is the custom op.</param>
    /// <param name="anyShape">Whether the inputs' dimensions are all left open.</param>
    internal byte[] Model(Tensor[] values, bool custom = false, bool anyShape = false)
    {
        var graph = new GraphProto { Name = "one node" };
        var node = new NodeProto
        {
            Name = "node",
            OpType = custom && CustomOp != "" ? CustomOp! : Op,
            Domain = custom ? "ort.batch_invariant" : Domain,
        };
        int last = Array.FindLastIndex(Inputs, input => input is not null);
        node.Input.AddRange(Inputs.Take(last + 1).Select(input => input?.Name ?? ""));
        node.Output.AddRange(Outputs.Select(output => output?.Name ?? ""));
        node.Attribute.AddRange(Attributes.Select(pair => OnnxAttribute.Of(pair.Name, pair.Value)));
        graph.Node.Add(node);
        foreach ((Operand input, Tensor value) in Present.Zip(values))
        {
            if (input.IsConstant)
            {
                graph.Initializer.Add(Graphs.Initializer(input.Name, value));
            }
            else
            {
                graph.Input.Add(Graphs.Value(input.Name, value, axis => anyShape || input.IsAnyShape || axis == input.RowAxis));
            }
        }

        graph.Output.AddRange(Outputs.OfType<Result>().Select(output => Graphs.Value(output.Name, output.Type)));
        return Graphs.Model(graph, Opset);
    }
}

/// <summary>The messages of an ONNX model.</summary>
internal static class Graphs
{
    internal static byte[] Model(GraphProto graph, int opset)
    {
        var model = new ModelProto { IrVersion = 10, Graph = graph };
        model.OpsetImport.Add(new OperatorSetIdProto { Version = opset });
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "com.microsoft", Version = 1 });
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "ort.batch_invariant", Version = 1 });
        return model.ToByteArray();
    }

    internal static NodeProto Node(string name, string op, string domain, string[] inputs, string[] outputs, params (string, object)[] attributes)
    {
        var node = new NodeProto { Name = name, OpType = op, Domain = domain };
        node.Input.AddRange(inputs);
        node.Output.AddRange(outputs);
        node.Attribute.AddRange(attributes.Select(pair => OnnxAttribute.Of(pair.Item1, pair.Item2)));
        return node;
    }

    internal static TensorProto Initializer(string name, Tensor value) =>
        new() { Name = name, DataType = (int)value.Type, RawData = ByteString.CopyFrom(value.Bytes), Dims = { value.Shape } };

    internal static ValueInfoProto Value(string name, TensorElementType type) =>
        new() { Name = name, Type = new TypeProto { TensorType = new() { ElemType = (int)type } } };

    internal static ValueInfoProto Value(string name, Tensor value, Func<int, bool> isOpen)
    {
        ValueInfoProto info = Value(name, value.Type);
        info.Type.TensorType.Shape = new TensorShapeProto();
        info.Type.TensorType.Shape.Dim.AddRange(value.Shape.Select((dimension, axis) => isOpen(axis)
            ? new TensorShapeProto.Types.Dimension { DimParam = $"{name}_{axis}" }
            : new() { DimValue = dimension }));
        return info;
    }
}

/// <summary>Sessions on the stock kernels, on the provider, and with the custom-op library.</summary>
internal static class Sessions
{
    internal static InferenceSession Stock(byte[] model)
    {
        using var options = new SessionOptions();
        return new InferenceSession(model, options);
    }

    /// <summary>What this processor can run besides the set that it runs by default.</summary>
    internal static CpuInstructionSet[] OtherInstructionSets => BatchInvariantProvider.InstructionSet switch
    {
        CpuInstructionSet.Avx512 => [CpuInstructionSet.Scalar, CpuInstructionSet.Avx2],
        CpuInstructionSet.Scalar => [],
        _ => [CpuInstructionSet.Scalar],
    };

    internal static InferenceSession Ours(
        byte[] model, out CoverageReport report, CpuInstructionSet? instructionSet = null, Action<SessionOptions>? configure = null)
    {
        using var options = new SessionOptions();
        configure?.Invoke(options);
        options.AppendBatchInvariant(new BatchInvariantOptions { InstructionSet = instructionSet });
        var session = new InferenceSession(model, options);
        report = CoverageReport.ForSession(options);
        return session;
    }

    internal static InferenceSession Ours(byte[] model) => Ours(model, out _);

    internal static InferenceSession Custom(byte[] model)
    {
        using var options = new SessionOptions();
        options.RegisterCustomOpLibraryV2(BatchInvariantProvider.GetLibraryPath(), out _);
        return new InferenceSession(model, options);
    }

    internal static OrtValue ToValue(Tensor tensor)
    {
        OrtValue value = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, tensor.Type, tensor.Shape);
        tensor.Bytes.CopyTo(value.GetTensorMutableRawData());
        return value;
    }

    internal static Tensor FromValue(OrtValue value)
    {
        OrtTensorTypeAndShapeInfo info = value.GetTensorTypeAndShape();
        return new(info.ElementDataType, info.Shape, info.ElementCount == 0 ? [] : value.GetTensorMutableRawData().ToArray());
    }

    /// <summary>Runs twice, the second time into outputs filled with NaN, and expects the same bytes of both.</summary>
    internal static Tensor[] Run(InferenceSession session, (string Name, Tensor Value)[] feeds, string[] outputs)
    {
        string[] names = [.. feeds.Select(feed => feed.Name)];
        OrtValue[] inputs = [.. feeds.Select(feed => ToValue(feed.Value))];
        OrtValue[] poisoned = [];
        using var options = new RunOptions();
        try
        {
            Tensor[] results;
            using (var values = session.Run(options, names, inputs, outputs))
            {
                results = [.. values.Select(FromValue)];
            }

            poisoned = [.. results.Select(result => ToValue(result with { Bytes = [.. Enumerable.Repeat((byte)0xFF, result.Bytes.Length)] }))];
            session.Run(options, names, inputs, outputs, poisoned);
            foreach ((Tensor result, OrtValue again) in results.Zip(poisoned))
            {
                Assert.True(result.Bytes.AsSpan().SequenceEqual(FromValue(again).Bytes), "two runs give other bytes, or an output was not written");
            }

            return results;
        }
        finally
        {
            Array.ForEach(inputs, input => input.Dispose());
            Array.ForEach(poisoned, output => output.Dispose());
        }
    }
}

/// <summary>What a comparison saw. Elements are compared as bits.</summary>
internal record struct Comparison(long Compared, long Different)
{
    internal void Add(Tensor expected, Tensor actual)
    {
        Assert.Equal(expected.Type, actual.Type);
        Assert.Equal(expected.Shape, actual.Shape);
        int size = Tensor.SizeOf(expected.Type);
        for (int i = 0; i < expected.Bytes.Length; i += size)
        {
            Compared++;
            Different += expected.Bytes.AsSpan(i, size).SequenceEqual(actual.Bytes.AsSpan(i, size)) ? 0 : 1;
        }
    }

    internal readonly void ExpectNone(ITestOutputHelper output, string what)
    {
        output.WriteLine($"{what}: {Compared} elements compared, {Different} different");
        Assert.NotEqual(0, Compared);
        Assert.True(Different == 0, $"{what}: {Different} of {Compared} elements differ");
    }

    internal readonly void ExpectSome(ITestOutputHelper output, string what)
    {
        output.WriteLine($"{what}: {Compared} elements compared, {Different} different");
        Assert.NotEqual(0, Different);
    }
}

/// <summary>What every op is put through.</summary>
internal static class Checks
{
    private const int StockRows = 5;

    internal static readonly int[] Batches = [2, 3, 7, 16, 33];

    /// <summary>
    /// Stock against the provider within the case's tolerance; then bit for bit the provider against the custom op, on each instruction
    /// set, and a row alone against the same row in batches.
    /// </summary>
    internal static void All(OpCase op, ITestOutputHelper output)
    {
        Random random = Seeded(output);
        Tensor[] values = op.Values(random, op.IsRowWise ? StockRows : 1);
        byte[] model = op.Model(values);
        using InferenceSession ours = Sessions.Ours(model, out CoverageReport report);
        CoverageNode node = Assert.Single(report.Nodes);
        Assert.Equal(("node", op.Op, op.Domain, ServedBy.BatchInvariant, op.Contract), (node.Name, node.Op, node.Domain, node.ServedBy, node.Contract));
        Tensor[] actual = Sessions.Run(ours, op.Feeds(values), op.OutputNames);

        OpCase stockForm = op.StockForm ?? op;
        if (op.StockOutputs > 0)
        {
            Tensor[] stockValues = op.ToStockForm(values);
            using InferenceSession stock = Sessions.Stock(stockForm.Model(stockValues));
            Close(op.ToOurForm(Run(stock, stockForm.Feeds(stockValues), stockForm.OutputNames)), actual, op, output);
        }

        if (op.CustomOp is not null)
        {
            using InferenceSession custom = Sessions.Custom(Converted(model));
            Same(actual, Sessions.Run(custom, op.Feeds(values), op.OutputNames)).ExpectNone(output, "converted model against provider");
        }
        else
        {
            Assert.Empty(Assert.Single(ModelCoverage.Of(new OnnxModel(ModelProto.Parser.ParseFrom(model))).Nodes).Coverage.CustomOp);
        }

        foreach (CpuInstructionSet set in Sessions.OtherInstructionSets)
        {
            using InferenceSession other = Sessions.Ours(model, out CoverageReport otherReport, instructionSet: set);
            Assert.Equal(set.ToString(), otherReport.InstructionSet, ignoreCase: true);
            Same(actual, Sessions.Run(other, op.Feeds(values), op.OutputNames)).ExpectNone(output, $"{set} against {report.InstructionSet}");
        }

        if (op.IsRowWise)
        {
            Rows(ours, op, values, random, hostile: true).ExpectNone(output, "row alone against the row in batches of 2 to 33");
            NoRows(ours, op, values, random);
        }
    }

    /// <summary>One batch row alone, then first and last among fresh neighbours; hostile ones hold NaN and Inf.</summary>
    internal static Comparison Rows(InferenceSession session, OpCase op, Tensor[] constants, Random random, bool hostile)
    {
        Operand[] operands = [.. op.Present];
        Tensor[] row = [.. operands.Select((operand, i) => operand.IsConstant ? constants[i] : operand.Make(random, 1))];
        Tensor[] alone = Run(session, op.Feeds(row), op.OutputNames);
        Result[] outputs = [.. op.Outputs.OfType<Result>()];
        var comparison = new Comparison();
        foreach (int rows in Batches)
        {
            foreach (int position in (int[])[0, rows - 1])
            {
                Tensor[] batch = [.. operands.Select((operand, i) => operand.RowAxis < 0 ? row[i] : InBatch(operand, row[i], random, rows, position, hostile))];
                Tensor[] results = hostile
                    ? Sessions.Run(session, op.Feeds(batch), op.OutputNames)
                    : Run(session, op.Feeds(batch), op.OutputNames);
                for (int i = 0; i < outputs.Length; i++)
                {
                    long extent = alone[i].Shape[outputs[i].RowAxis];
                    comparison.Add(alone[i], results[i].Slice(outputs[i].RowAxis, position * extent, extent));
                }
            }
        }

        return comparison;
    }

    internal static Random Seeded(ITestOutputHelper output)
    {
        string? given = Environment.GetEnvironmentVariable("ORT_BATCH_INVARIANT_TEST_SEED");
        int seed = given is null ? Random.Shared.Next() : int.Parse(given, CultureInfo.InvariantCulture);
        output.WriteLine($"ORT_BATCH_INVARIANT_TEST_SEED={seed}");
        return new Random(seed);
    }

    internal static Comparison Same(Tensor[] expected, Tensor[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        var comparison = new Comparison();
        for (int i = 0; i < expected.Length; i++)
        {
            comparison.Add(expected[i], actual[i]);
        }

        return comparison;
    }

    /// <summary>Within the case's tolerance, relative to the largest element of each output.</summary>
    internal static void Close(Tensor[] expected, Tensor[] actual, OpCase op, ITestOutputHelper output)
    {
        for (int i = 0; i < Math.Min(expected.Length, op.StockOutputs); i++)
        {
            Assert.Equal(expected[i].Shape, actual[i].Shape);
            ReadOnlySpan<float> left = expected[i].ToFloat().As<float>();
            ReadOnlySpan<float> right = actual[i].ToFloat().As<float>();
            double largest = 0;
            double difference = 0;
            for (int j = 0; j < left.Length; j++)
            {
                Assert.True(float.IsFinite(left[j]) ? float.IsFinite(right[j]) : left[j].Equals(right[j]), $"output {i}[{j}]: {left[j]} against {right[j]}");
                if (float.IsFinite(left[j]))
                {
                    largest = Math.Max(largest, Math.Abs((double)left[j]));
                    difference = Math.Max(difference, Math.Abs((double)left[j] - right[j]));
                }
            }

            output.WriteLine($"stock against provider, output {i}: {left.Length} elements compared, largest difference {difference / Math.Max(largest, 1e-30):e1} of the largest");
            Assert.NotEqual(0, left.Length);
            Assert.True(difference <= op.Tolerance * largest, $"output {i}: {difference / largest} exceeds the tolerance {op.Tolerance}");
        }
    }

    internal static Tensor[] Run(InferenceSession session, (string Name, Tensor Value)[] feeds, string[] outputs)
    {
        OrtValue[] inputs = [.. feeds.Select(feed => Sessions.ToValue(feed.Value))];
        try
        {
            using var options = new RunOptions();
            using var values = session.Run(options, [.. feeds.Select(feed => feed.Name)], inputs, outputs);
            return [.. values.Select(Sessions.FromValue)];
        }
        finally
        {
            Array.ForEach(inputs, input => input.Dispose());
        }
    }

    /// <summary>The model as `ortbi convert` writes it: its node a custom op, and nothing left that varies.</summary>
    private static byte[] Converted(byte[] bytes)
    {
        var model = new OnnxModel(ModelProto.Parser.ParseFrom(bytes));
        Assert.Equal(1, GraphRewriter.Convert(model, ModelCoverage.Of(model)));
        CoverageNode node = Assert.Single(ModelCoverage.Of(model).Nodes).Coverage;
        Assert.Equal(("ort.batch_invariant", ServedBy.BatchInvariant), (node.Domain, node.ServedBy));
        byte[] converted = model.Proto.ToByteArray();
        Assert.Equal(1, GraphRewriter.Revert(model));
        model.Proto.OpsetImport.Add(new OperatorSetIdProto { Domain = "ort.batch_invariant", Version = 1 });
        Assert.Equal(bytes, model.Proto.ToByteArray());
        return converted;
    }

    /// <summary>A batch of no rows gives outputs of no rows.</summary>
    private static void NoRows(InferenceSession session, OpCase op, Tensor[] constants, Random random)
    {
        Tensor[] none = [.. op.Present.Select((operand, i) => operand.IsConstant ? constants[i] : operand.Make(random, 0))];
        Tensor[] results = Sessions.Run(session, op.Feeds(none), op.OutputNames);
        foreach ((Result expected, Tensor result) in op.Outputs.OfType<Result>().Zip(results))
        {
            Assert.Equal(0, result.Shape[expected.RowAxis]);
        }
    }

    internal static Tensor InBatch(Operand operand, Tensor row, Random random, int rows, int position, bool hostile)
    {
        Tensor batch = operand.Make(random, rows);
        if (hostile && batch.Type == TensorElementType.Float16 && batch.Elements > 0)
        {
            Span<Half> values = MemoryMarshal.Cast<byte, Half>(batch.Bytes.AsSpan());
            for (int i = 0; i < 1 + (values.Length / 5); i++)
            {
                values[random.Next(values.Length)] = (i % 3) switch { 0 => Half.NaN, 1 => Half.PositiveInfinity, _ => Half.NegativeInfinity };
            }
        }

        if (hostile && batch.Type == TensorElementType.Float && batch.Elements > 0)
        {
            Span<float> values = MemoryMarshal.Cast<byte, float>(batch.Bytes.AsSpan());
            for (int i = 0; i < 1 + (values.Length / 5); i++)
            {
                values[random.Next(values.Length)] = (i % 3) switch { 0 => float.NaN, 1 => float.PositiveInfinity, _ => float.NegativeInfinity };
            }
        }

        batch.Place(operand.RowAxis, position * row.Shape[operand.RowAxis], row);
        return batch;
    }
}
