using System.CommandLine;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Gpu.Models;
using OrtBatchInvariant.Gpu.Records;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Verification;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Gpu.Commands;

/// <summary>`bad-input`: what cannot be done is refused with one sentence, and what could be done before still can be.</summary>
internal static class BadInputCommand
{
    // Spoils one result of that comparison of the library's start-up self-test.
    private const string SpoilVariable = "ORT_BATCH_INVARIANT_SPOIL_SELF_TEST";

    public static Command Create()
    {
        var command = new Command("bad-input", "Check that missing devices, exhausted memory and unserved types each give one sentence.");
        var common = new CommonOptions(command);
        command.SetAction(parsed => Run(common.Read(parsed)));
        return command;
    }

    private static int Run(CommonValues values)
    {
        var report = new CheckReport("bad-input", values.JsonFile);
        TestModel model = values.Models[0];
        ModelFolder folder = model.Make(values.ModelsFolder);

        Refused(report, "no such GPU", "GPU", () => DecoderModel.Open(folder, new DecoderModelOptions { DeviceId = 1000 }).Dispose());
        Refused(report, "type that is not served", "MatMul", () => OpenDouble(values));
        Refused(report, "more tokens than the KV buffer holds", "KV buffer", () =>
        {
            using DecoderModel decoder = DecoderModel.Open(folder, values.Options(KernelSet.BatchInvariant));
            using var batch = new DecoderBatch(decoder, 1, 8);
            batch.Append([[.. Enumerable.Range(1, 9)]]).Dispose();
        });
        if (values.DeviceId is not null)
        {
            Refused(report, "a GPU whose start-up self-test fails", "self-test of CUDA device", () => OpenWith(SpoilVariable, "7", values));
            Refused(report, "no GPU that CUDA may use", "sees 0 GPUs", () => OpenWith("CUDA_VISIBLE_DEVICES", "-1", values));
            Refused(report, "heads of a size that is not served", "head size 264", () =>
                DecoderModel.Open(TestModel.WithHeadsOf(264).Make(values.ModelsFolder), values.Options(KernelSet.BatchInvariant)).Dispose());
            ExhaustMemory(report, folder, values);
        }

        return report.Finish();
    }

    // The device's memory is filled up but for the logits of a longer prompt than any before, which needs more than those.
    private static void ExhaustMemory(CheckReport report, ModelFolder folder, CommonValues values)
    {
        const int Rows = 48;
        using DecoderModel decoder = DecoderModel.Open(folder, values.Options(KernelSet.BatchInvariant));
        byte[] before = Logits(decoder);
        int tokens = decoder.Shape.ContextLength / 2;
        var random = new Random(1);
        int[][] prompts = [.. Enumerable.Range(0, Rows).Select(_ => Enumerable.Range(0, tokens).Select(_ => random.Next(decoder.Shape.VocabularySize)).ToArray())];
        using (var batch = new DecoderBatch(decoder, Rows, tokens))
        using (var pressure = new MemoryPressure(decoder, reserve: (long)Rows * tokens * decoder.Shape.LogitsBytes))
        {
            Refused(report, "KV buffers larger than the GPU's memory", "memory", () => new DecoderBatch(decoder, Rows, tokens).Dispose());
            pressure.ReleaseReserve();
            Refused(report, "a run for which the GPU has no memory left", "memory", () => batch.AppendUnread(prompts));
        }

        byte[] after = Logits(decoder);
        report.Add("the session goes on after exhausted memory", before.AsSpan().SequenceEqual(after), $"{before.Length} bytes of logits compared");
    }

    private static byte[] Logits(DecoderModel decoder)
    {
        using var batch = new DecoderBatch(decoder, 1, 16, poisons: true);
        using BatchLogits logits = batch.Append([[3, 1, 4, 1, 5]]);
        return logits.Bytes(0, 4).ToArray();
    }

    private static void OpenDouble(CommonValues values)
    {
        Directory.CreateDirectory(values.ModelsFolder);
        string path = Path.Combine(values.ModelsFolder, "double.onnx");
        File.WriteAllBytes(path, DoubleMatMul().ToByteArray());
        using var options = new SessionOptions();
        options.AppendBatchInvariant(new BatchInvariantOptions { DeviceId = values.DeviceId });
        using var session = new InferenceSession(path, options);
    }

    // CUDA starts once a process, and so does the self-test: another one is told.
    private static void OpenWith(string variable, string value, CommonValues values)
    {
        Environment.SetEnvironmentVariable(variable, value);
        try
        {
            ThisProgram.Run(["alone", "--quick", "--models", values.ModelsFolder]);
        }
        finally
        {
            Environment.SetEnvironmentVariable(variable, null);
        }
    }

    private static ModelProto DoubleMatMul()
    {
        var graph = new GraphProto { Name = "double" };
        foreach (string name in (string[])["a", "b", "y"])
        {
            var shape = new TensorShapeProto { Dim = { new TensorShapeProto.Types.Dimension { DimValue = 4 }, new TensorShapeProto.Types.Dimension { DimValue = 4 } } };
            var type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)DataType.Double, Shape = shape } };
            (name == "y" ? graph.Output : graph.Input).Add(new ValueInfoProto { Name = name, Type = type });
        }

        graph.Node.Add(new NodeProto { Name = "product", OpType = "MatMul", Input = { "a", "b" }, Output = { "y" } });
        return new ModelProto { IrVersion = 10, Graph = graph, OpsetImport = { new OperatorSetIdProto { Domain = "", Version = 21 } } };
    }

    private static void Refused(CheckReport report, string name, string mentions, Action action)
    {
        try
        {
            action();
        }
        catch (Exception exception) when (exception is VerificationException or BatchInvariantException or OnnxRuntimeException)
        {
            string message = exception.Message.ReplaceLineEndings(" ").Trim();
            report.Add(name, message.Contains(mentions, StringComparison.OrdinalIgnoreCase), message);
            return;
        }

        report.Add(name, false, "it was accepted");
    }
}
