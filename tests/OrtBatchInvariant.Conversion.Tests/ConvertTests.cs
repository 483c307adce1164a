using System.Runtime.InteropServices;
using System.Text.Json;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Conversion.Tests.Support;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;
using static OrtBatchInvariant.Conversion.Tests.Support.Graphs;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Conversion.Tests;

public sealed class ConvertTests(ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _temporary = new();

    [Fact]
    public void EveryVaryingNodeBecomesACustomOp()
    {
        string input = Write(Samples.WithSubgraphsAndFunctions());
        ConvertedModel converted = Assert.Single(Convert(input, "out").Models);
        Assert.Equal((5, 5), (converted.ChangedNodes, converted.CustomNodes));
        OnnxModel model = OnnxModel.Load(converted.File);
        Assert.Equal(
            ["first:ort.batch_invariant", "choose:", "inner:ort.batch_invariant", "other:ort.batch_invariant", "call1:test.local", "call2:test.local",
                "product:ort.batch_invariant", "Tanh_1:ort.batch_invariant", "sum:"],
            GraphInspector.Nodes(model).Select(node => $"{node.Name}:{node.Domain}"));
        Assert.Contains(model.Proto.OpsetImport, import => import is { Domain: "ort.batch_invariant", Version: 1 });
        Assert.Contains(model.Proto.Functions[0].OpsetImport, import => import is { Domain: "ort.batch_invariant", Version: 1 });
        Assert.True(File.Exists(Path.Combine(_temporary.Path, "out", "libort_batch_invariant.so")));
        Assert.All(ModelCoverage.Of(model).Nodes, node => Assert.NotEqual(ServedBy.StockVarying, node.Coverage.ServedBy));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void RevertGivesTheOriginalBytesBack(bool externalData)
    {
        string input = Write(Samples.WithSubgraphsAndFunctions(), externalData);
        Convert(input, "out");
        ConvertResult back = ModelConverter.Convert(
            Path.Combine(_temporary.Path, "out", "model.onnx"), Path.Combine(_temporary.Path, "back"), new ConvertOptions { Revert = true });
        Assert.Equal(5, Assert.Single(back.Models).ChangedNodes);
        AssertSameFiles(Path.GetDirectoryName(input)!, back.Folder);
    }

    [Fact]
    public void ConvertedModelIsCopiedAsItIs()
    {
        string input = Write(Samples.WithSubgraphsAndFunctions());
        string first = Convert(input, "out").Folder;
        ConvertResult again = ModelConverter.Convert(Path.Combine(first, "model.onnx"), Path.Combine(_temporary.Path, "again"), new ConvertOptions());
        Assert.Equal((0, 5), (Assert.Single(again.Models).ChangedNodes, Assert.Single(again.Models).CustomNodes));
        AssertSameFiles(first, again.Folder);
    }

    [Fact]
    public void RevertOfAModelThatWasNotConvertedIsRefused() => Refused(
        () => ModelConverter.Convert(Write(Samples.WithSubgraphsAndFunctions()), Path.Combine(_temporary.Path, "out"), new ConvertOptions { Revert = true }),
        "no converted node");

    [Fact]
    public void NodeThatWouldStillVaryIsRefusedUnlessAllowed()
    {
        string input = Write(Samples.WithSubgraphsAndFunctions(elseOp: "Softplus"));
        Refused(() => Convert(input, "out"), "'other' (Softplus");
        ConvertResult result = ModelConverter.Convert(input, Path.Combine(_temporary.Path, "out"), new ConvertOptions { Strict = false });
        Assert.Equal("other", Assert.Single(Assert.Single(result.Models).VaryingNodes).Name);
    }

    /// <summary>
    /// A graph in which nothing is fused: op by op it gives the bytes of the provider on the graph as it stands, and a row alone those of
    /// the row in a batch, which stock kernels do not.
    /// </summary>
    [Fact]
    public void UnfusedGraphIsConvertedOpByOp()
    {
        string input = Write(Samples.Unfused());
        ConvertedModel converted = Assert.Single(Convert(input, "out").Models);
        Assert.Equal(7, converted.ChangedNodes);
        using var withProvider = new SessionOptions { GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL };
        withProvider.AppendBatchInvariant();
        using var provider = new InferenceSession(input, withProvider);
        using var withLibrary = new SessionOptions();
        withLibrary.RegisterCustomOpLibraryV2(Path.Combine(_temporary.Path, "out", "libort_batch_invariant.so"), out _);
        using var custom = new InferenceSession(converted.File, withLibrary);
        using var withStock = new SessionOptions();
        using var stock = new InferenceSession(input, withStock);

        const int Tokens = 9;
        var random = new Random(3);
        float[] batch = [.. Enumerable.Range(0, 7 * Tokens * Samples.Width).Select(_ => (float)((random.NextDouble() * 2) - 1))];
        int[] together = Run(custom, batch, 7);
        Assert.Equal(Run(provider, batch, 7), together);
        int[] stockTogether = Run(stock, batch, 7);
        int stockDifferent = 0;
        int length = Tokens * Samples.Width;
        for (int row = 0; row < 7; row++)
        {
            float[] one = batch[(row * length)..((row + 1) * length)];
            Assert.Equal(together[(row * length)..((row + 1) * length)], Run(custom, one, 1));
            stockDifferent += stockTogether[(row * length)..((row + 1) * length)].Zip(Run(stock, one, 1)).Count(pair => pair.First != pair.Second);
        }

        output.WriteLine($"{together.Length} elements compared; stock: {stockDifferent} different");

        static int[] Run(InferenceSession session, float[] x, int rows)
        {
            using var value = OrtValue.CreateTensorValueFromMemory(x, [rows, Tokens, Samples.Width]);
            using var options = new RunOptions();
            using IDisposableReadOnlyCollection<OrtValue> results = session.Run(options, ["x"], [value], ["y"]);
            return MemoryMarshal.Cast<float, int>(results[0].GetTensorDataAsSpan<float>()).ToArray();
        }
    }

    /// <summary>Every op set, with the axes of a reduction in an attribute or an input, counted from the front: its rank is still known.</summary>
    [Theory]
    [InlineData(13)]
    [InlineData(14)]
    [InlineData(15)]
    [InlineData(16)]
    [InlineData(17)]
    [InlineData(18)]
    [InlineData(19)]
    [InlineData(20)]
    [InlineData(21)]
    [InlineData(22)]
    [InlineData(23)]
    [InlineData(24)]
    public void EveryOpset(int opset)
    {
        NodeProto mean = opset < 18
            ? Node("mean", "ReduceMean", ["t"], ["y"], ("axes", new long[] { 2 }))
            : Node("mean", "ReduceMean", ["t", "axes"], ["y"]);
        ModelProto model = Model(
            Graph(
                "main", [Value("x", DataType.Float, "batch", "tokens", 16)], [Value("y", DataType.Float, "batch", "tokens", 1)],
                Node("product", "MatMul", ["x", "w"], ["p"]), Node("softmax", "Softmax", ["p"], ["s"], ("axis", -1)), Node("tanh", "Tanh", ["s"], ["t"]), mean),
            opset);
        model.Graph.Initializer.AddRange([RandomFloats("w", new Random(4), 16, 8), Longs("axes", [1], 2)]);
        Assert.Equal(4, Assert.Single(Convert(Write(model), "out").Models).ChangedNodes);
        ConvertResult back = ModelConverter.Convert(
            Path.Combine(_temporary.Path, "out", "model.onnx"), Path.Combine(_temporary.Path, "back"), new ConvertOptions { Revert = true });
        AssertSameFiles(Path.Combine(_temporary.Path, "in"), back.Folder);
    }

    /// <summary>Nothing of an unfused pattern is passed over: a member that has no kernel of ours is named.</summary>
    [Fact]
    public void MemberOfAPatternThatIsNotServedIsNamed()
    {
        ModelProto model = Samples.Unfused();
        model.Graph.Node[3].OpType = "Log";
        Refused(() => Convert(Write(model), "out"), "'root' (Log: this op is neither served here nor known to be invariant)");
    }

    /// <summary>Softmax of op set 12 runs over several axes at once, which the custom op of that name does not.</summary>
    [Fact]
    public void FormThatTheProviderAloneHasIsNamed()
    {
        ModelProto model = Model(
            Graph("main", [Value("x", DataType.Float, "rows", 8)], [Value("y", DataType.Float, "rows", 8)], Node("old", "Softmax", ["x"], ["y"])), opset: 12);
        Refused(() => Convert(Write(model), "out"), "'old' (Softmax: this form of the op");
    }

    [Fact]
    public void LinkedDataIsTheSameFile()
    {
        string input = Write(Samples.WithSubgraphsAndFunctions(), externalData: true);
        ModelConverter.Convert(input, Path.Combine(_temporary.Path, "out"), new ConvertOptions { Link = true });
        string data = Path.Combine(_temporary.Path, "out", "model.onnx.data");
        byte[] before = File.ReadAllBytes(data);
        using (FileStream original = File.OpenWrite(input + ".data"))
        {
            original.WriteByte((byte)~before[0]);
        }

        Assert.NotEqual(before[0], File.ReadAllBytes(data)[0]);
    }

    /// <summary>3 GiB of external data, which neither the inspection nor the conversion may read into memory.</summary>
    [Fact]
    public void WeightsOverTwoGigabytesStayOnTheDisk()
    {
        const long Rows = 3L << 20;
        const long Width = 256;
        string input = _temporary.Write("in/model.onnx");
        ModelProto proto = Model(Graph(
            "main",
            [Value("x", DataType.Float, "rows", Width)],
            [Value("y", DataType.Float, "rows", Rows)],
            Node("product", "MatMul", ["x", "w"], ["y"])));
        var weight = new TensorProto { Name = "w", DataType = (int)DataType.Float, Dims = { Width, Rows }, DataLocation = TensorProto.Types.DataLocation.External };
        weight.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = "model.onnx.data" });
        proto.Graph.Initializer.Add(weight);
        File.WriteAllBytes(input, proto.ToByteArray());
        using (FileStream data = File.Create(input + ".data"))
        {
            data.SetLength(Rows * Width * sizeof(float));
        }

        long before = Environment.WorkingSet;
        ConvertedModel converted = Assert.Single(ModelConverter.Convert(input, Path.Combine(_temporary.Path, "out"), new ConvertOptions { Link = true }).Models);
        Assert.Equal(1, converted.ChangedNodes);
        Assert.Equal(Rows * Width * sizeof(float), new FileInfo(Path.Combine(_temporary.Path, "out", "model.onnx.data")).Length);
        Assert.InRange(Environment.WorkingSet - before, long.MinValue, 512L << 20);
    }

    [Fact]
    public void OutputInsideTheInputIsRefused()
    {
        string folder = WriteFolder("""{ "model": { "decoder": { "filename": "model.onnx" } } }""");
        Refused(() => ModelConverter.Convert(folder, Path.Combine(folder, "out"), new ConvertOptions()), "lies inside");
    }

    [Fact]
    public void OutputThatExistsIsReplacedOnlyIfAsked()
    {
        string input = Write(Samples.WithSubgraphsAndFunctions());
        _temporary.Write("out/mine.txt");
        Refused(() => Convert(input, "out"), "is not empty", "out");
        ModelConverter.Convert(input, Path.Combine(_temporary.Path, "out"), new ConvertOptions { Overwrite = true });
        Assert.False(File.Exists(Path.Combine(_temporary.Path, "out", "mine.txt")));
    }

    /// <summary>Every session that the configuration names gets the library, wherever its options are, and loses it again.</summary>
    [Theory]
    [InlineData("""{ "model": { "decoder": { "filename": "model.onnx" } } }""")]
    [InlineData("""{"model":{"decoder":{"session_options":{},"filename":"model.onnx"}}}""")]
    [InlineData("""
        {
          // a comment
          "model": {
            "decoder": { "session_options": { "log_id": "x", "provider_options": [], }, "filename": "model.onnx" },
            "embedding": { "filename": "second/model.onnx", "inputs": {} }
          },
          "search": { "top_k": 1 }
        }
        """)]
    public void ConfigurationNamesTheLibrary(string config)
    {
        string folder = WriteFolder(config);
        string converted = ModelConverter.Convert(folder, Path.Combine(_temporary.Path, "out"), new ConvertOptions()).Folder;
        string text = File.ReadAllText(Path.Combine(converted, "genai_config.json"));
        JsonElement model = JsonDocument.Parse(text, new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true })
            .RootElement.GetProperty("model");
        JsonElement[] sessions = [.. model.EnumerateObject().Select(part => part.Value.GetProperty("session_options"))];
        Assert.NotEmpty(sessions);
        Assert.All(sessions, options => Assert.Equal("libort_batch_invariant.so", options.GetProperty("custom_ops_library").GetString()));
        Assert.True(File.Exists(Path.Combine(converted, "tokenizer", "x.json")));
        Assert.Equal(
            "ort.batch_invariant", OnnxModel.Load(Path.Combine(converted, model.EnumerateObject().Last().Value.GetProperty("filename").GetString()!)).Proto.Graph.Node[0].Domain);

        string back = ModelConverter.Convert(converted, Path.Combine(_temporary.Path, "back"), new ConvertOptions { Revert = true }).Folder;
        AssertSameFiles(folder, back);
    }

    [Theory]
    [InlineData("""{ "model": ""","not valid JSON")]
    [InlineData("[]", "names no model file")]
    [InlineData("""{ "model": { "decoder": { "filename": "../model.onnx" } } }""", "outside the model's folder")]
    [InlineData("""{ "model": { "decoder": { "filename": "other.onnx" } } }""", "no such model file")]
    [InlineData("""{ "model": { "decoder": { "session_options": { "custom_ops_library": "other.so" }, "filename": "model.onnx" } } }""", "'other.so'")]
    public void BadConfigurationIsRefused(string config, string part) => Refused(
        () => ModelConverter.Convert(WriteFolder(config), Path.Combine(_temporary.Path, "out"), new ConvertOptions()), part);

    public void Dispose() => _temporary.Dispose();

    private string WriteFolder(string config)
    {
        string model = Write(Samples.WithSubgraphsAndFunctions());
        _temporary.Write("in/genai_config.json", System.Text.Encoding.UTF8.GetBytes(config));
        _temporary.Write("in/tokenizer/x.json", "{}"u8);
        _temporary.Write("in/second/model.onnx", File.ReadAllBytes(model));
        return Path.GetDirectoryName(model)!;
    }

    private static void AssertSameFiles(string expected, string actual)
    {
        string[] files = FilesOf(expected);
        Assert.Equal(files, FilesOf(actual));
        Assert.NotEmpty(files);
        Assert.All(files, file => Assert.Equal(File.ReadAllBytes(Path.Combine(expected, file)), File.ReadAllBytes(Path.Combine(actual, file))));
    }

    private static string[] FilesOf(string folder) =>
        [.. Directory.GetFiles(folder, "*", SearchOption.AllDirectories).Select(file => Path.GetRelativePath(folder, file)).Order()];

    private ConvertResult Convert(string input, string folder) => ModelConverter.Convert(input, Path.Combine(_temporary.Path, folder), new ConvertOptions());

    private string Write(ModelProto model, bool externalData = false)
    {
        Directory.CreateDirectory(Path.Combine(_temporary.Path, "in"));
        string path = Path.Combine(_temporary.Path, "in", "model.onnx");
        new OnnxModel(model).Save(path, new OnnxSaveOptions { ExternalData = externalData });
        return path;
    }

    /// <summary>Refused in one sentence, and nothing is left: no output, and no half of one.</summary>
    private void Refused(Func<ConvertResult> conversion, string part, params string[] left)
    {
        string message = Assert.Throws<ModelException>(conversion).Message;
        Assert.Contains(part, message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
        Assert.Equal(["in", .. left], (IEnumerable<string?>)Directory.GetFileSystemEntries(_temporary.Path).Select(Path.GetFileName).Order());
    }
}
