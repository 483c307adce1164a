using System.Globalization;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using OrtBatchInvariant.Models;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.Conversion.Tests;

/// <summary>
/// The models of a folder that someone names, such as <c>test/models</c> in a checkout of onnxruntime-genai, in the variable
/// ORT_BATCH_INVARIANT_GIVEN_MODELS: each is inspected and converted; where a node would vary it is named, and else the converted model gives
/// the bytes of the provider on the original. Without the variable the folder is made here, of models like those.
/// </summary>
public sealed class GivenModelsTests(ITestOutputHelper output) : IDisposable
{
    private const string Variable = "ORT_BATCH_INVARIANT_GIVEN_MODELS";

    private readonly TemporaryFolder _temporary = new();

    [Fact]
    public void EveryModelIsServedByBothRoutesOrNamesWhatIsNot()
    {
        string folder = Environment.GetEnvironmentVariable(Variable) ?? Support.LookAlikes.Write(Path.Combine(_temporary.Path, "models"));
        string[] files = [.. Directory.EnumerateFiles(folder, "*.onnx", SearchOption.AllDirectories).Order(StringComparer.Ordinal)];
        Assert.NotEmpty(files);
        var wrong = new List<string>();
        int served = 0;
        foreach (string file in files)
        {
            string name = Path.GetRelativePath(folder, file);
            try
            {
                string outcome = Check(file);
                output.WriteLine($"{name}: {outcome}");
                served += outcome.Contains("elements compared", StringComparison.Ordinal) ? 1 : 0;
            }
            catch (ModelException exception)
            {
                // One sentence that names the node, or says what is wrong with the file.
                output.WriteLine($"{name}: refused: {exception.Message}");
                Assert.DoesNotContain('\n', exception.Message);
            }
            catch (Exception exception) when (exception is OnnxRuntimeException or Xunit.Sdk.XunitException)
            {
                wrong.Add($"{name}: {exception.Message.ReplaceLineEndings(" ")}");
            }
        }

        output.WriteLine($"{files.Length} models, {served} run by both routes");
        Assert.Empty(wrong);
        Assert.NotEqual(0, served);
    }

    public void Dispose() => _temporary.Dispose();

    private string Check(string file)
    {
        ModelCoverage coverage = ModelCoverage.Of(OnnxModel.Load(file));
        Assert.Equal(GraphInspector.Nodes(OnnxModel.Load(file)).Count, coverage.Nodes.Count(node => node.Node is not null));
        ConvertResult result = ModelConverter.Convert(file, Path.Combine(_temporary.Path, "out"), new ConvertOptions { Overwrite = true });
        ConvertedModel converted = Assert.Single(result.Models);

        // As the file stands: what ONNX Runtime fuses before the provider sees it is another graph than the converted one.
        using var withProvider = new SessionOptions { GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL };
        withProvider.AppendBatchInvariant();
        using var provider = new InferenceSession(file, withProvider);
        using var withLibrary = new SessionOptions { GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL };
        withLibrary.RegisterCustomOpLibraryV2(Path.Combine(result.Folder, "libort_batch_invariant.so"), out _);
        using var custom = new InferenceSession(converted.File, withLibrary);
        Dictionary<string, OrtValue> feeds;
        try
        {
            feeds = Feeds(provider, HeadSize(Path.GetDirectoryName(file)!), new Random(9));
        }
        catch (NotSupportedException exception)
        {
            return $"{converted.ChangedNodes} nodes converted, not run: {exception.Message}";
        }

        try
        {
            byte[][] expected;
            try
            {
                expected = Run(provider, feeds);
            }
            catch (OnnxRuntimeException exception)
            {
                // Values made up for inputs whose meaning is not known may be refused; then they are by both.
                Assert.Throws<OnnxRuntimeException>(() => Run(custom, feeds));
                return $"{converted.ChangedNodes} nodes converted, made-up inputs refused by both routes ({exception.Message.ReplaceLineEndings(" ")[..Math.Min(120, exception.Message.Length)]})";
            }

            byte[][] actual = Run(custom, feeds);
            long bytes = 0;
            Assert.Equal(expected.Length, actual.Length);
            foreach ((byte[] a, byte[] b) in expected.Zip(actual))
            {
                Assert.True(a.AsSpan().SequenceEqual(b), "the converted model gives other bytes than the provider");
                bytes += a.Length;
            }

            return $"{converted.ChangedNodes} nodes converted, {bytes} bytes of elements compared";
        }
        finally
        {
            foreach (OrtValue feed in feeds.Values)
            {
                feed.Dispose();
            }
        }
    }

    private static byte[][] Run(InferenceSession session, Dictionary<string, OrtValue> feeds)
    {
        using var options = new RunOptions();
        using IDisposableReadOnlyCollection<OrtValue> results = session.Run(options, feeds, session.OutputNames);
        return [.. results.Select(result => result.GetTensorTypeAndShape().ElementCount == 0 ? [] : result.GetTensorMutableRawData().ToArray())];
    }

    /// <summary>Values by the names that dimensions and inputs have in GenAI's models: two rows of one token after four, or of three.</summary>
    private static Dictionary<string, OrtValue> Feeds(InferenceSession session, int headSize, Random random)
    {
        const int Past = 4;
        bool hasPast = session.InputMetadata.Keys.Any(name => name.Contains("past", StringComparison.Ordinal));
        int tokens = hasPast ? 1 : 3;
        int past = hasPast ? Past : 0;
        var feeds = new Dictionary<string, OrtValue>();
        foreach ((string name, NodeMetadata input) in session.InputMetadata)
        {
            if (!input.IsTensor)
            {
                throw new NotSupportedException($"the input {name} is no tensor");
            }

            long[] shape = [.. input.Dimensions.Select((size, axis) => size >= 0 ? size : Size(name, input.SymbolicDimensions[axis], axis, past, tokens, headSize))];
            long count = shape.Aggregate(1L, (a, b) => a * b);
            OrtValue value = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, input.ElementDataType, shape);
            feeds[name] = value;
            for (long i = 0; i < count; i++)
            {
                double number = name switch
                {
                    _ when name.Contains("mask", StringComparison.Ordinal) => 1,
                    _ when name.Contains("position", StringComparison.Ordinal) => past + (i % tokens),
                    _ when name.Contains("length", StringComparison.Ordinal) => past + tokens,
                    _ when input.ElementDataType is TensorElementType.Float or TensorElementType.Float16 => (random.NextDouble() * 2) - 1,
                    _ => random.Next(3, 20),
                };
                Set(value, input.ElementDataType, (int)i, number, name);
            }
        }

        return feeds;
    }

    /// <summary>What GenAI's configuration beside a model says, if there is one: graphs leave it open.</summary>
    private static int HeadSize(string folder)
    {
        string config = Path.Combine(folder, "genai_config.json");
        return File.Exists(config)
            && JsonDocument.Parse(File.ReadAllText(config), new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true }).RootElement
                .TryGetProperty("model", out JsonElement model)
            && model.TryGetProperty("decoder", out JsonElement decoder) && decoder.TryGetProperty("head_size", out JsonElement size)
            ? size.GetInt32()
            : 1;
    }

    private static int Size(string input, string dimension, int axis, int past, int tokens, int headSize)
    {
        string name = dimension.ToLower(CultureInfo.InvariantCulture);
        return name.Contains("batch", StringComparison.Ordinal) ? 2
            : name.Contains("total", StringComparison.Ordinal) || name.Contains('+', StringComparison.Ordinal) ? past + tokens
            : name is "kv_cache_dim" or "head_size" ? headSize
            : name.Contains("past", StringComparison.Ordinal) ? past
            : name.Contains("seq", StringComparison.Ordinal) ? (input.Contains("mask", StringComparison.Ordinal) ? past + tokens : tokens)
            : axis == 0 ? 2
            : tokens;
    }

    private static void Set(OrtValue value, TensorElementType type, int i, double number, string name)
    {
        switch (type)
        {
            case TensorElementType.Float:
                value.GetTensorMutableDataAsSpan<float>()[i] = (float)number;
                break;
            case TensorElementType.Float16:
                value.GetTensorMutableDataAsSpan<Float16>()[i] = (Float16)(float)number;
                break;
            case TensorElementType.Int64:
                value.GetTensorMutableDataAsSpan<long>()[i] = (long)number;
                break;
            case TensorElementType.Int32:
                value.GetTensorMutableDataAsSpan<int>()[i] = (int)number;
                break;
            case TensorElementType.Bool:
                value.GetTensorMutableDataAsSpan<bool>()[i] = number != 0;
                break;
            default:
                throw new NotSupportedException($"the input {name} is of type {type}");
        }
    }
}
