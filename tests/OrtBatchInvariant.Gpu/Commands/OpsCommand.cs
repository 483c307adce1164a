using System.CommandLine;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Conversion;
using OrtBatchInvariant.Gpu.Models;
using OrtBatchInvariant.Gpu.Records;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Gpu.Commands;

/// <summary>`ops`: ops that no exported model has, one by one: the bytes of a row whatever the rows beside it, and the CPU's result.</summary>
internal static class OpsCommand
{
    private const int Rows = 70;

    public static Command Create()
    {
        var command = new Command("ops", "Compare ops that no exported model has over batches, and with the CPU; with --stock also as custom ops in ONNX Runtime's CUDA provider.");
        var common = new CommonOptions(command);
        command.SetAction(parsed => Run(common.Read(parsed)));
        return command;
    }

    private static int Run(CommonValues values)
    {
        var report = new CheckReport("ops", values.JsonFile);
        foreach (OpGraph graph in OpGraph.All())
        {
            try
            {
                Check(report, values, graph);
            }
            catch (Exception exception) when (exception is BatchInvariantException or OnnxRuntimeException or Verification.VerificationException)
            {
                report.Add(graph.Name, false, exception.Message.ReplaceLineEndings(" "));
            }
        }

        return report.Finish();
    }

    private static void Check(CheckReport report, CommonValues values, OpGraph graph)
    {
        var random = new Random();
        byte[] model = graph.Model();
        byte[][] inputs = graph.Values(Rows, random);
        using InferenceSession session = Open(model, values.Options(KernelSet.BatchInvariant));
        byte[][] whole = graph.Run(session, inputs, 0, Rows);
        List<byte[]> expected = [], actual = [];
        foreach (int count in (ReadOnlySpan<int>)[1, 2, 3, 8, 17, 33, 64])
        {
            foreach (int first in (ReadOnlySpan<int>)[0, Rows - count, random.Next(Rows - count)])
            {
                foreach ((byte[] part, byte[] all) in graph.Run(session, inputs, first, count).Zip(whole))
                {
                    int row = all.Length / Rows;
                    actual.Add(part);
                    expected.Add(all[(first * row)..((first + count) * row)]);
                }
            }
        }

        report.AddComparison($"{graph.Name}: a row among others", graph.Name, expected, actual, graph.ElementBytes, what: "elements");
        using InferenceSession cpu = Open(model, new DecoderModelOptions { Kernels = KernelSet.BatchInvariant });
        double error = graph.Run(cpu, inputs, 0, Rows).Zip(whole).Max(pair => Error(pair.First, pair.Second, graph.ElementBytes));
        report.Add($"{graph.Name}: against the CPU", error < (graph.ElementBytes == 2 ? 5e-3 : 2e-5), FormattableString.Invariant($"relative error {error:G3}"));
        if (values.Stock && values.DeviceId is not null)
        {
            CheckCustom(report, values, graph, model, inputs, whole);
        }
    }

    private static void CheckCustom(CheckReport report, CommonValues values, OpGraph graph, byte[] model, byte[][] inputs, byte[][] whole)
    {
        string folder = Path.Combine(values.ModelsFolder, "ops");
        Directory.CreateDirectory(folder);
        string original = Path.Combine(folder, "original.onnx"), converted = Path.Combine(folder, "converted");
        File.WriteAllBytes(original, model);
        ModelConverter.Convert(original, converted, new ConvertOptions { ForCuda = true, Link = true, Overwrite = true });
        DecoderModelOptions options = values.Options(KernelSet.Stock) with
        {
            CustomOpLibrary = Path.Combine(converted, Path.GetFileName(BatchInvariantProvider.GetLibraryPath())),
        };
        using InferenceSession session = Open(File.ReadAllBytes(Path.Combine(converted, "original.onnx")), options);
        report.AddComparison($"{graph.Name}: as a custom op, the provider's bytes", graph.Name, whole, graph.Run(session, inputs, 0, Rows), graph.ElementBytes, what: "elements");
    }

    private static InferenceSession Open(byte[] model, DecoderModelOptions options)
    {
        using SessionOptions sessionOptions = DecoderModel.NewSessionOptions(options);
        DecoderModel.AppendProviders(sessionOptions, options);
        return new InferenceSession(model, sessionOptions);
    }

    private static double Error(byte[] expected, byte[] actual, int elementBytes)
    {
        double error = 0, norm = 0;
        for (int i = 0; i < expected.Length; i += elementBytes)
        {
            double x = Read(expected.AsSpan(i), elementBytes), y = Read(actual.AsSpan(i), elementBytes);
            error += (x - y) * (x - y);
            norm += x * x;
        }

        return Math.Sqrt(error / norm);
    }

    private static double Read(ReadOnlySpan<byte> bytes, int elementBytes) => elementBytes == 2 ? (double)MemoryMarshal.Read<Half>(bytes) : MemoryMarshal.Read<float>(bytes);
}
