using System.Globalization;
using Google.Protobuf;
using OrtBatchInvariant.Conversion.Tests.Support;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;
using static OrtBatchInvariant.Conversion.Tests.Support.Graphs;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Conversion.Tests;

/// <summary>Broken and hostile models: one sentence, and nothing left behind.</summary>
[Collection(nameof(BadModelTests))]
[CollectionDefinition(nameof(BadModelTests), DisableParallelization = true)]
public sealed class BadModelTests : IDisposable
{
    private const string CountVariable = "ORT_BATCH_INVARIANT_FUZZ_MODELS";
    private const string SeedVariable = "ORT_BATCH_INVARIANT_TEST_SEED";
    private const int ModelsByDefault = 250;
    private static readonly TimeSpan s_longestTime = TimeSpan.FromSeconds(30);

    private static readonly Dictionary<string, (Action<ModelProto> Break, string Sentence)> s_broken = new()
    {
        ["cycle"] = (model => model.Graph.Node[0].Input[0] = "y", "'first' (MatMul) is part of a cycle"),
        ["cycle through a subgraph"] = (model => model.Graph.Node[1].Attribute[0].G.Node[0].Input[0] = "y", "part of a cycle"),
        ["value that nothing makes"] = (model => model.Graph.Node[0].Input[0] = "nowhere", "reads the value 'nowhere', which nothing makes"),
        ["output that nothing makes"] = (model => model.Graph.Output[0].Name = "nowhere", "the output 'nowhere' is made by nothing"),
        ["two makers of a value"] = (model => model.Graph.Node[2].Output[0] = "h", "makes the value 'h', which something else makes already"),
        ["two initializers of a name"] = (model => model.Graph.Initializer.Add(model.Graph.Initializer[0].Clone()), "two initializers are named 'w1'"),
        ["two inputs of a name"] = (model => model.Graph.Input.Add(model.Graph.Input[0].Clone()), "two inputs are named 'x'"),
        ["domain without import"] = (model => model.Graph.Node[0].Domain = "no.such", "the domain 'no.such', which the model does not import"),
        ["unknown domain"] = (
            model =>
            {
                model.Graph.Node[0].Domain = "no.such";
                model.OpsetImport.Add(new OperatorSetIdProto { Domain = "no.such", Version = 1 });
            },
            "ONNX Runtime cannot load it"),
        ["import of version 0"] = (model => model.OpsetImport[0].Version = 0, "version 0"),
        ["two imports of a domain"] = (model => model.OpsetImport.Add(model.OpsetImport[0].Clone()), "twice"),
        ["op set of the future"] = (model => model.OpsetImport[0].Version = int.MaxValue, "ONNX Runtime cannot load it"),
        ["function that calls itself"] = (model => Call(model.Functions[0], "Block"), "calls itself"),
        ["functions that call each other ever more"] = (Multiply, "stand for more than"),
        ["shape that lies"] = (model => model.Graph.Initializer[0].Dims[0] = 47, "holds 9216 bytes where its shape [47, 48] needs 9024"),
        ["negative dimension"] = (model => model.Graph.Initializer[0].Dims[0] = -48, "shape that cannot be read"),
        ["absurd dimension"] = (model => model.Graph.Initializer[0].Dims[0] = long.MaxValue, "cannot be read"),
        ["unknown element type"] = (model => model.Graph.Initializer[0].DataType = 99, "element type 99"),
        ["data outside the folder"] = (model => External(model, "../secret.bin"), "outside the model's folder"),
        ["data by absolute path"] = (model => External(model, "/etc/hostname"), "outside the model's folder"),
        ["data by a link out of the folder"] = (model => External(model, "link.bin"), "a link out of the model's folder"),
        ["data that is missing"] = (model => External(model, "missing.bin"), "not beside the model"),
        ["data that ends early"] = (model => External(model, "short.bin"), "has only 4; the file is truncated"),
        ["data at an absurd place"] = (model => External(model, "short.bin", offset: long.MaxValue), "has only 4; the file is truncated"),
        ["no graph"] = (model => model.Graph = null, "no graph"),
        ["types that do not fit"] = (model => model.Graph.Node[0].Input[1] = "flag", "ONNX Runtime cannot load it"),
    };

    private readonly TemporaryFolder _temporary = new();
    private readonly ITestOutputHelper _output;
    private readonly string? _systemTemporary = Environment.GetEnvironmentVariable("TMPDIR");

    public BadModelTests(ITestOutputHelper output)
    {
        _output = output;
        // What is left in here was left by the code under test.
        Directory.CreateDirectory(Path.Combine(_temporary.Path, "tmp"));
        Environment.SetEnvironmentVariable("TMPDIR", Path.Combine(_temporary.Path, "tmp"));
    }

    public static TheoryData<string> Broken => [.. s_broken.Keys];

    [Theory]
    [MemberData(nameof(Broken))]
    public void IsRefusedInOneSentence(string name)
    {
        (Action<ModelProto> spoil, string sentence) = s_broken[name];
        ModelProto model = Samples.WithSubgraphsAndFunctions();
        spoil(model);
        string message = Convert(model.ToByteArray(), revert: false)!;
        _output.WriteLine(message);
        Assert.Contains(sentence, message, StringComparison.Ordinal);
    }

    [Fact]
    public void TruncatedFileIsRefused()
    {
        byte[] whole = Samples.WithSubgraphsAndFunctions().ToByteArray();
        Assert.Contains("truncated", Convert(whole[..(whole.Length / 2)], revert: false), StringComparison.Ordinal);
        Assert.Contains("truncated", Convert([], revert: false), StringComparison.Ordinal);
    }

    /// <summary>
    /// Models with random faults in bytes and in messages: each is converted, or refused in one sentence; none crashes the process, takes
    /// long, or leaves a file. The variable ORT_BATCH_INVARIANT_FUZZ_MODELS says how many.
    /// </summary>
    [Fact]
    public void MutatedModelsNeitherCrashNorLeaveFiles()
    {
        int count = int.Parse(Environment.GetEnvironmentVariable(CountVariable) ?? $"{ModelsByDefault}", CultureInfo.InvariantCulture);
        int seed = int.Parse(Environment.GetEnvironmentVariable(SeedVariable) ?? $"{Random.Shared.Next()}", CultureInfo.InvariantCulture);
        _output.WriteLine($"{SeedVariable}={seed}");
        ModelProto original = Samples.WithSubgraphsAndFunctions();
        var model = new OnnxModel(original.Clone());
        GraphRewriter.Convert(model, ModelCoverage.Of(model));
        ModelProto[] bases = [original, model.Proto, Samples.Unfused()];
        int converted = 0;
        for (int i = 0; i < count; i++)
        {
            var random = new Random(HashCode.Combine(seed, i));
            var mutator = new ModelMutator(random);
            byte[] bytes = mutator.Mutate(bases[random.Next(bases.Length)].Clone());
            // A crash of the process leaves the model that did it.
            File.WriteAllBytes(Path.Combine(Path.GetTempPath(), "..", "last.onnx"), bytes);
            DateTime start = DateTime.UtcNow;
            converted += Convert(bytes, revert: random.Next(4) == 0) is null ? 1 : 0;
            Assert.True(DateTime.UtcNow - start < s_longestTime, $"model {i} took {DateTime.UtcNow - start}");
        }

        _output.WriteLine($"{count} models: {converted} converted, {count - converted} refused");
        Assert.InRange(converted, 1, count - 1);
    }

    public void Dispose()
    {
        Environment.SetEnvironmentVariable("TMPDIR", _systemTemporary);
        _temporary.Dispose();
    }

    private static void External(ModelProto model, string location, long offset = 0)
    {
        TensorProto tensor = model.Graph.Initializer[0];
        tensor.ClearRawData();
        tensor.DataLocation = TensorProto.Types.DataLocation.External;
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = location });
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "offset", Value = offset.ToString(CultureInfo.InvariantCulture) });
    }

    private static void Call(FunctionProto function, string name)
    {
        function.OpsetImport.Add(new OperatorSetIdProto { Domain = "test.local", Version = 1 });
        function.Node.Add(Node("again", $"test.local:{name}", ["a", "b"], ["unused"]));
    }

    /// <summary>Each of forty functions calls the next one twice.</summary>
    private static void Multiply(ModelProto model)
    {
        for (int i = 0; i < 40; i++)
        {
            FunctionProto function = model.Functions[0].Clone();
            function.Name = $"Block{i}";
            if (i < 39)
            {
                function.Node.Clear();
                function.OpsetImport.Add(new OperatorSetIdProto { Domain = "test.local", Version = 1 });
                function.Node.AddRange([Node("one", $"test.local:Block{i + 1}", ["a", "b"], ["p"]), Node("two", $"test.local:Block{i + 1}", ["p", "b"], ["c"])]);
            }

            model.Functions.Add(function);
        }

        model.Graph.Node[2].OpType = "Block0";
    }

    /// <summary>Converts a model; null, or the sentence that refused it. Nothing but a whole output may be left.</summary>
    private string? Convert(byte[] model, bool revert)
    {
        string input = _temporary.Write("in/model.onnx", model);
        _temporary.Write("in/short.bin", [1, 2, 3, 4]);
        _temporary.Write("secret.bin", new byte[9216]);
        if (!File.Exists(Path.Combine(_temporary.Path, "in", "link.bin")))
        {
            File.CreateSymbolicLink(Path.Combine(_temporary.Path, "in", "link.bin"), Path.Combine(_temporary.Path, "secret.bin"));
        }

        string output = Path.Combine(_temporary.Path, "out");
        string? message = null;
        try
        {
            ModelConverter.Convert(input, output, new ConvertOptions { Strict = false, Revert = revert });
        }
        catch (ModelException exception)
        {
            message = exception.Message;
            Assert.DoesNotContain('\n', message);
            Assert.EndsWith(".", message, StringComparison.Ordinal);
        }

        Assert.Equal(message is null, Directory.Exists(output));
        if (message is null)
        {
            OnnxModel.Load(Path.Combine(output, "model.onnx"));
            Directory.Delete(output, recursive: true);
        }

        Assert.Empty(Directory.GetFileSystemEntries(Path.Combine(_temporary.Path, "tmp")));
        string[] entries = [.. Directory.GetFileSystemEntries(_temporary.Path).Select(entry => Path.GetFileName(entry)!).Where(name => name != "last.onnx").Order()];
        Assert.Equal(["in", "secret.bin", "tmp"], entries);
        return message;
    }
}
