using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntimeGenAI;
using OrtBatchInvariant.Conversion;
using OrtBatchInvariant.GenAI.Tests.Support;
using OrtBatchInvariant.Tests.Support;
using Xunit.Abstractions;

namespace OrtBatchInvariant.GenAI.Tests;

/// <summary>A converted folder, and nothing else of ours, in every host: the bytes are those of the provider on the original.</summary>
[Collection(DemoModels.Name)]
public sealed class ConvertedModelTests(DemoModels models, ITestOutputHelper output) : IDisposable
{
    private const int Steps = 12;
    private const string Prompt = "The President said that the ship";
    private static readonly int[] s_batches = [1, 2, 8];

    private readonly TemporaryFolder _temporary = new();

    [Theory]
    [InlineData(nameof(DemoModels.Fp32))]
    [InlineData(nameof(DemoModels.Int4))]
    public void GenAIGivesTheBytesOfTheProvider(string precision)
    {
        string original = precision == nameof(DemoModels.Fp32) ? models.Fp32 : models.Int4;
        Completion provider = WithProvider(original);
        using var config = new Config(Convert(original));
        using var model = new Model(config);
        using var tokenizer = new Tokenizer(model);
        (long compared, long different) = (0, 0);
        foreach ((string[] prompts, int position) in ((string[], int)[])[([Prompt], 0), ([Prompt, "I", "The whale, and the sea, and the whale again"], 0), (["No", Prompt], 1)])
        {
            Completion converted = Completion.Generate(model, tokenizer, prompts, position, Steps);
            Assert.Equal(provider.Tokens, converted.Tokens);
            (long more, long bad) = provider.CompareTo(converted);
            compared += more;
            different += bad;
        }

        output.WriteLine($"{compared} logits compared, {different} different");
        Assert.True(compared > 100_000);
        Assert.Equal(0, different);
    }

    [Theory]
    [InlineData(nameof(DemoModels.Fp32))]
    [InlineData(nameof(DemoModels.Int4))]
    public void SessionAndCppProgramAndPythonGiveTheBytesOfTheProvider(string precision)
    {
        string original = precision == nameof(DemoModels.Fp32) ? models.Fp32 : models.Int4;
        string converted = Convert(original);
        string library = Path.Combine(converted, Path.GetFileName(BatchInvariantProvider.GetLibraryPath()));
        using var withProvider = new SessionOptions();
        withProvider.AppendBatchInvariant();
        int headSize = JsonDocument.Parse(File.ReadAllText(Path.Combine(original, "genai_config.json"))).RootElement
            .GetProperty("model").GetProperty("decoder").GetProperty("head_size").GetInt32();
        string[] expected = Digests(Path.Combine(original, "model.onnx"), withProvider, headSize);
        Assert.Single(expected.Distinct());

        using var withLibrary = new SessionOptions();
        withLibrary.RegisterCustomOpLibraryV2(library, out _);
        Assert.Equal(expected, Digests(Path.Combine(converted, "model.onnx"), withLibrary, headSize));

        string[] arguments = [Path.Combine(converted, "model.onnx"), library, $"{headSize}"];
        Assert.Equal(expected, Run(BuildCppExample(), arguments));
        if (HasPythonPackage())
        {
            Assert.Equal(expected, Run("python3", [Example("python/first_logits.py"), .. arguments]));
        }
        else
        {
            output.WriteLine("Python's package onnxruntime is not here: its example did not run.");
        }
    }

    public void Dispose() => _temporary.Dispose();

    private static Completion WithProvider(string folder)
    {
        using var config = new Config(folder);
        config.UseBatchInvariant();
        using var model = new Model(config);
        using var tokenizer = new Tokenizer(model);
        return Completion.Generate(model, tokenizer, [Prompt], 0, Steps);
    }

    /// <summary>What the examples print, for batches of 1, 2 and 8.</summary>
    private static string[] Digests(string file, SessionOptions options, int headSize)
    {
        const int Length = 8;
        using var session = new InferenceSession(file, options);
        return [.. s_batches.Select(batch =>
        {
            var feeds = new Dictionary<string, OrtValue>();
            foreach ((string name, NodeMetadata input) in session.InputMetadata)
            {
                int[] shape = input.Dimensions;
                feeds[name] = shape.Length == 4
                    ? OrtValue.CreateTensorValueFromMemory(Array.Empty<float>(), [batch, shape[1], 0, headSize])
                    : OrtValue.CreateTensorValueFromMemory(
                        Enumerable.Range(0, batch * Length).Select(j => name == "attention_mask" ? 1L : 3 + (7L * j % 50)).ToArray(), [batch, Length]);
            }

            using var run = new RunOptions();
            using IDisposableReadOnlyCollection<OrtValue> outputs = session.Run(run, feeds, ["logits"]);
            foreach (OrtValue feed in feeds.Values)
            {
                feed.Dispose();
            }

            long[] dims = outputs[0].GetTensorTypeAndShape().Shape;
            ReadOnlySpan<byte> logits = MemoryMarshal.AsBytes(outputs[0].GetTensorDataAsSpan<float>());
            ReadOnlySpan<byte> row = logits.Slice((int)((dims[1] - 1) * dims[2]) * sizeof(float), (int)dims[2] * sizeof(float));
            ulong digest = 14695981039346656037;
            foreach (byte value in row)
            {
                digest = (digest ^ value) * 1099511628211;
            }

            return digest.ToString("x16", CultureInfo.InvariantCulture);
        })];
    }

    private static string Example(string path) => Path.Combine(DemoModels.Metadata("Examples"), path);

    private static bool HasPythonPackage()
    {
        try
        {
            using Process process = Process.Start(new ProcessStartInfo("python3", ["-c", "import numpy, onnxruntime"]) { RedirectStandardError = true })!;
            process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }

    private string Convert(string original) =>
        ModelConverter.Convert(original, Path.Combine(_temporary.Path, "converted"), new ConvertOptions()).Folder;

    private string BuildCppExample()
    {
        string program = Path.Combine(_temporary.Path, "first_logits");
        string libraries = DemoModels.Metadata("OnnxRuntimeLibraries");
        // The package has the library without the version in its name that the linker writes down.
        File.CreateSymbolicLink(Path.Combine(_temporary.Path, "libonnxruntime.so.1"), Path.Combine(libraries, "libonnxruntime.so"));
        Run(
            "c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", Example("cpp/first_logits.cc"), "-isystem", DemoModels.Metadata("OnnxRuntimeHeaders"),
            "-L", libraries, "-lonnxruntime", $"-Wl,-rpath,{_temporary.Path}", "-o", program);
        return program;
    }

    private string[] Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string text = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"{program} failed: {error.Result}{text}");
        return text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }
}
