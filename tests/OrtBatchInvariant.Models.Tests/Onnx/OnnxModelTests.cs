using System.Runtime.InteropServices;
using Google.Protobuf;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Models.Tests.Support;
using Xunit.Abstractions;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Tests.Onnx;

public class OnnxModelTests(ITestOutputHelper output)
{
    [Fact]
    public void ExternalDataComesBackByteForByte()
    {
        using var folder = new TemporaryFolder();
        var original = Sample();
        new OnnxModel(original).Save(folder["m.onnx"], new OnnxSaveOptions { MinExternalBytes = 64 });

        Assert.Equal(["m.onnx", "m.onnx.data"], folder.Entries().Order());
        var loaded = OnnxModel.Load(folder["m.onnx"]);
        var (compared, external) = (0, 0);
        foreach (var (expected, actual) in new OnnxModel(original).Tensors.Zip(loaded.Tensors))
        {
            Assert.Equal(expected.Name, actual.Name);
            var bytes = loaded.ReadBytes(actual);
            Assert.Equal(expected.RawData.ToByteArray(), bytes);
            compared += bytes.Length;
            if (actual.DataLocation == TensorProto.Types.DataLocation.External)
            {
                external++;
                var offset = long.Parse(actual.ExternalData.Single(e => e.Key == "offset").Value);
                Assert.Equal(0, offset % (bytes.Length >= 1 << 20 ? 1 << 16 : 4096));
            }
        }

        output.WriteLine($"{compared} bytes compared, {external} tensors external");
        Assert.Equal(3, external);

        // Back into one file, and everything but the place of the data is as it was.
        loaded.Save(folder["whole.onnx"], new OnnxSaveOptions { ExternalData = false });
        Assert.Equal(original, OnnxModel.Load(folder["whole.onnx"]).Proto);
        Assert.False(File.Exists(folder["whole.onnx.data"]));
    }

    [Fact]
    public void AModelIsSavedOverItself()
    {
        using var folder = new TemporaryFolder();
        new OnnxModel(Sample()).Save(folder["m.onnx"]);
        var loaded = OnnxModel.Load(folder["m.onnx"]);
        loaded.Proto.Graph.Name = "renamed";
        loaded.Save(folder["m.onnx"]);

        var again = OnnxModel.Load(folder["m.onnx"]);
        Assert.Equal("renamed", again.Proto.Graph.Name);
        Assert.All(
            again.Tensors.Zip(Sample().Graph.Initializer),
            pair => Assert.Equal(pair.Second.RawData.ToByteArray(), again.ReadBytes(pair.First)));
        Assert.Equal(["m.onnx", "m.onnx.data"], folder.Entries().Order());
    }

    [Fact]
    public void UnknownFieldsSurvive()
    {
        using var folder = new TemporaryFolder();
        byte[] unknown = [0xFA, 0x3F, 0x03, (byte)'a', (byte)'b', (byte)'c'];
        File.WriteAllBytes(folder["m.onnx"], [.. Sample().ToByteArray(), .. unknown]);
        OnnxModel.Load(folder["m.onnx"]).Save(folder["n.onnx"], new OnnxSaveOptions { ExternalData = false });
        Assert.Equal(unknown, File.ReadAllBytes(folder["n.onnx"])[^unknown.Length..]);
    }

    [Fact]
    public void TypedFieldsReadAsRawBytes()
    {
        var model = new OnnxModel(Sample());
        var floats = new TensorProto { Name = "f", DataType = (int)DataType.Float, Dims = { 2 }, FloatData = { 1.5f, -2f } };
        var halves = new TensorProto { Name = "h", DataType = (int)DataType.Float16, Dims = { 2 }, Int32Data = { 0x3C00, 0xC000 } };
        var longs = new TensorProto { Name = "l", DataType = (int)DataType.Int64, Dims = { 1 }, Int64Data = { -2 } };
        var nibbles = new TensorProto { Name = "n", DataType = (int)DataType.Int4, Dims = { 3 }, Int32Data = { 0x21, 0x03 } };
        Assert.Equal([1.5f, -2f], MemoryMarshal.Cast<byte, float>(model.ReadBytes(floats)).ToArray());
        Assert.Equal([(Half)1f, (Half)(-2f)], MemoryMarshal.Cast<byte, Half>(model.ReadBytes(halves)).ToArray());
        Assert.Equal([-2L], MemoryMarshal.Cast<byte, long>(model.ReadBytes(longs)).ToArray());
        Assert.Equal([0x21, 0x03], model.ReadBytes(nibbles));
    }

    [Theory]
    [InlineData("/etc/passwd")]
    [InlineData("../secret")]
    [InlineData("sub/../../secret")]
    [InlineData("..\\secret")]
    [InlineData("\\secret")]
    [InlineData("c:\\secret")]
    [InlineData("c:secret")]
    public void DataOutsideTheFolderIsNotOpened(string location)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["secret"], new byte[4096]);
        Directory.CreateDirectory(folder["model"]);
        File.WriteAllBytes(folder["model/m.onnx"], WithExternal(location, "0", "16").ToByteArray());
        var error = Assert.Throws<ModelException>(() => OnnxModel.Load(folder["model/m.onnx"]));
        Assert.Contains("outside the model's folder; it was not opened", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ALinkOutOfTheFolderIsNotOpened()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["secret"], new byte[4096]);
        Directory.CreateDirectory(folder["model"]);
        File.CreateSymbolicLink(folder["model/w.bin"], folder["secret"]);
        File.WriteAllBytes(folder["model/m.onnx"], WithExternal("w.bin", "0", "16").ToByteArray());
        var error = Assert.Throws<ModelException>(() => OnnxModel.Load(folder["model/m.onnx"]));
        Assert.Contains("a link out of the model's folder", error.Message, StringComparison.Ordinal);

        // A download cache links the model as well as its data.
        Directory.CreateDirectory(folder["cache"]);
        File.CreateSymbolicLink(folder["cache/m.onnx"], folder["model/m.onnx"]);
        File.CreateSymbolicLink(folder["cache/w.bin"], folder["secret"]);
        Assert.Equal(16, OnnxModel.Load(folder["cache/m.onnx"]).ReadBytes(OnnxModel.Load(folder["cache/m.onnx"]).Tensors.First()).Length);
    }

    [Theory]
    [InlineData("w.bin", "0", "17", "states 17 bytes")]
    [InlineData("w.bin", "4090", "16", "needs bytes 4090 to 4106")]
    [InlineData("w.bin", "9223372036854775807", "16", "needs bytes 9223372036854775807")]
    [InlineData("w.bin", "-1", "16", "which is not a byte count")]
    [InlineData("w.bin", "zero", "16", "which is not a byte count")]
    [InlineData("missing.bin", "0", "16", "which is not beside the model")]
    [InlineData("", "0", "16", "without a location")]
    public void WrongExternalDataIsRefused(string location, string offset, string length, string expected)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["w.bin"], new byte[4096]);
        File.WriteAllBytes(folder["m.onnx"], WithExternal(location, offset, length).ToByteArray());
        var error = Assert.Throws<ModelException>(() => OnnxModel.Load(folder["m.onnx"]));
        Assert.Contains("tensor 'w'", error.Message, StringComparison.Ordinal);
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ALyingShapeIsRefused()
    {
        using var folder = new TemporaryFolder();
        long[][] shapes = [[3], [5], [-4], [long.MaxValue, long.MaxValue], [1L << 62, 4]];
        foreach (var shape in shapes)
        {
            var model = Sample();
            model.Graph.Initializer[0].Dims.Clear();
            model.Graph.Initializer[0].Dims.AddRange(shape);
            File.WriteAllBytes(folder["m.onnx"], model.ToByteArray());
            var error = Assert.Throws<ModelException>(() => OnnxModel.Load(folder["m.onnx"]));
            Assert.Contains($"tensor '{model.Graph.Initializer[0].Name}'", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void EveryTruncationIsRefused()
    {
        using var folder = new TemporaryFolder();
        // Operator sets then come last in the file, so that no cut leaves a whole model.
        var model = Sample(large: false);
        model.Functions.Clear();
        var whole = model.ToByteArray();
        for (var length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(folder["m.onnx"], whole[..length]);
            var error = Assert.Throws<ModelException>(() => OnnxModel.Load(folder["m.onnx"]));
            OneSentence.Check(error, folder["m.onnx"]);
        }

        output.WriteLine($"{whole.Length} truncations tried");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AFailedSaveLeavesTheOldModel(bool hadModel)
    {
        using var folder = new TemporaryFolder();
        if (hadModel)
        {
            new OnnxModel(Sample()).Save(folder["m.onnx"]);
        }

        var before = folder.Entries().ToDictionary(name => name, name => File.ReadAllBytes(folder[name]));
        var broken = Sample();
        broken.Graph.Initializer.Add(new TensorProto
        {
            Name = "lost",
            DataType = (int)DataType.Float,
            Dims = { 1000 },
            DataLocation = TensorProto.Types.DataLocation.External,
        });
        Assert.Throws<ModelException>(() => new OnnxModel(broken).Save(folder["m.onnx"]));
        Assert.Equal(before.Keys.Order(), folder.Entries().Order());
        Assert.All(before, file => Assert.Equal(file.Value, File.ReadAllBytes(folder[file.Key])));
    }

    [Fact]
    public void NodesAreListedWithTheirGraphAndTypes()
    {
        var nodes = GraphInspector.Nodes(new OnnxModel(Sample()));
        Assert.Equal(["product", "choice", "Identity_0", "Inner_0"], nodes.Select(node => node.Name));
        Assert.Equal(["", "", "choice.then_branch", "function f:F"], nodes.Select(node => node.Graph));
        var product = nodes[0];
        Assert.Equal(("MatMul", "", 21L), (product.OpType, product.Domain, product.OpsetVersion));
        Assert.Equal(DataType.Float, product.Inputs[0].ElementType);
        Assert.Equal(["batch", "4"], product.Inputs[0].Shape);
        Assert.False(product.Inputs[0].IsConstant);
        Assert.True(product.Inputs[1].IsConstant);

        // A subgraph sees the values around it.
        Assert.Equal("large", nodes[2].Inputs[0].Name);
        Assert.Equal(DataType.Float, nodes[2].Inputs[0].ElementType);
        Assert.Null(nodes[3].OpsetVersion);
    }

    private static ModelProto WithExternal(string location, string offset, string length)
    {
        var tensor = new TensorProto
        {
            Name = "w",
            DataType = (int)DataType.Float,
            Dims = { 4 },
            DataLocation = TensorProto.Types.DataLocation.External,
        };
        foreach (var (key, value) in ((string, string)[])[("location", location), ("offset", offset), ("length", length)])
        {
            tensor.ExternalData.Add(new StringStringEntryProto { Key = key, Value = value });
        }

        return new ModelProto
        {
            IrVersion = 10,
            Graph = new GraphProto { Initializer = { tensor } },
            OpsetImport = { new OperatorSetIdProto { Version = 21 } },
        };
    }

    /// <summary>Weights in the main graph, in a subgraph and in a function.</summary>
    private static ModelProto Sample(bool large = true)
    {
        var random = new Random(5);
        var then = new GraphProto
        {
            Name = "then",
            Node = { new NodeProto { OpType = "Identity", Input = { "large" }, Output = { "r" } } },
            Initializer = { Tensor("inner", random, 40) },
            Output = { new ValueInfoProto { Name = "r" } },
        };
        var input = new TypeProto.Types.Tensor { ElemType = (int)DataType.Float, Shape = new TensorShapeProto() };
        input.Shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimParam = "batch" });
        input.Shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimValue = 4 });
        return new ModelProto
        {
            IrVersion = 10,
            Graph = new GraphProto
            {
                Name = "main",
                Input = { new ValueInfoProto { Name = "x", Type = new TypeProto { TensorType = input } } },
                Initializer = { Tensor("small", random, 4), Tensor("large", random, large ? 300_001 : 20) },
                Node =
                {
                    new NodeProto { Name = "product", OpType = "MatMul", Input = { "x", "small" }, Output = { "y" } },
                    new NodeProto
                    {
                        Name = "choice",
                        OpType = "If",
                        Input = { "y" },
                        Output = { "z" },
                        Attribute = { AttributeProto.Of("then_branch", then) },
                    },
                },
            },
            Functions =
            {
                new FunctionProto
                {
                    Name = "F",
                    Domain = "f",
                    Node =
                    {
                        new NodeProto
                        {
                            OpType = "Inner",
                            Domain = "g",
                            Attribute =
                            {
                                AttributeProto.Of("t", Tensor("attribute", random, 33)),
                            },
                        },
                    },
                },
            },
            OpsetImport = { new OperatorSetIdProto { Version = 21 } },
        };
    }

    private static TensorProto Tensor(string name, Random random, int count)
    {
        var bytes = new byte[count * 4];
        random.NextBytes(bytes);
        return new TensorProto { Name = name, DataType = (int)DataType.Float, Dims = { count }, RawData = ByteString.CopyFrom(bytes) };
    }
}
