using System.Globalization;
using System.Text.Json.Nodes;
using Google.Protobuf;
using OrtBatchInvariant.Models.Export;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Gpu.Models;

/// <summary>
/// A decoder with random weights for benchmarks, written in seconds: two layers are exported, and the graph is then made as long as it
/// should be with layers that point to the second one's weights in the file. On the device every layer has a copy of its own, as ONNX
/// Runtime loads each initializer by itself, so the bytes that a step reads are those of the real model.
/// </summary>
internal static class RepeatedLayers
{
    private const int Exported = 2;
    private const string Repeated = "layers.1";

    public static ModelFolder Make(string modelsFolder, string name, HfConfig shape, ExportOptions options)
    {
        string folder = Path.Combine(modelsFolder, name);
        if (!Directory.Exists(folder))
        {
            Directory.CreateDirectory(modelsFolder);
            string partial = folder + ".partial";
            ModelExporter.ExportRandom(shape with { LayerCount = Exported }, partial, options with { Overwrite = true });
            Lengthen(Path.Combine(partial, "model.onnx"), shape.LayerCount);
            SetLayerCount(Path.Combine(partial, "genai_config.json"), shape.LayerCount);
            Directory.Move(partial, folder);
        }

        return ModelFolder.Open(folder);
    }

    private static void Lengthen(string path, int layers)
    {
        ModelProto model = OnnxModel.Load(path).Proto;
        GraphProto graph = model.Graph;
        List<NodeProto> nodes = [.. graph.Node];
        List<TensorProto> weights = [.. graph.Initializer.Where(tensor => IsRepeated(tensor.Name))];
        List<ValueInfoProto> inputs = [.. graph.Input.Where(IsCache)];
        List<ValueInfoProto> outputs = [.. graph.Output.Where(IsCache)];

        // Shapes of values inside are found again by ONNX Runtime.
        graph.ValueInfo.Clear();
        graph.Node.Clear();
        foreach (NodeProto node in nodes.Where(node => !IsAfterLayers(node)))
        {
            graph.Node.Add(node);
        }

        for (int layer = Exported; layer < layers; layer++)
        {
            Func<string, string> rename = Renamer(layer);
            graph.Node.AddRange(nodes.Where(node => IsRepeated(node.Name)).Select(node => Rename(node, rename)));
            graph.Initializer.AddRange(weights.Select(tensor => Clone(tensor, copy => copy.Name = rename(copy.Name))));
            graph.Input.AddRange(inputs.Select(value => Clone(value, copy => copy.Name = rename(copy.Name))));
            graph.Output.AddRange(outputs.Select(value => Clone(value, copy => copy.Name = rename(copy.Name))));
        }

        // What follows the last layer reads from it.
        foreach (NodeProto node in nodes.Where(IsAfterLayers))
        {
            graph.Node.Add(Rename(node, text => Last(text, layers)));
        }

        File.WriteAllBytes(path, model.ToByteArray());
    }

    private static bool IsRepeated(string name) =>
        name.Contains($"{Repeated}/", StringComparison.Ordinal) || name.Contains($"{Repeated}.", StringComparison.Ordinal);

    private static bool IsCache(ValueInfoProto value) => value.Name.Contains(".1.", StringComparison.Ordinal);

    private static bool IsAfterLayers(NodeProto node) =>
        node.Name.Contains($"layers.{Exported}/", StringComparison.Ordinal) || node.Name.Contains("lm_head", StringComparison.Ordinal);

    private static Func<string, string> Renamer(int layer) => text => text
        .Replace("layers.1", $"layers.{Number(layer)}", StringComparison.Ordinal)
        .Replace("layers.0", $"layers.{Number(layer - 1)}", StringComparison.Ordinal)
        .Replace("past_key_values.1.", $"past_key_values.{Number(layer)}.", StringComparison.Ordinal)
        .Replace("present.1.", $"present.{Number(layer)}.", StringComparison.Ordinal);

    private static string Last(string text, int layers) => text
        .Replace("/layers.1/", $"/layers.{Number(layers - 1)}/", StringComparison.Ordinal)
        .Replace("/layers.2/", $"/layers.{Number(layers)}/", StringComparison.Ordinal);

    private static string Number(int value) => value.ToString(CultureInfo.InvariantCulture);

    private static NodeProto Rename(NodeProto node, Func<string, string> rename) => Clone(node, copy =>
    {
        copy.Name = rename(copy.Name);
        for (int i = 0; i < copy.Input.Count; i++)
        {
            copy.Input[i] = rename(copy.Input[i]);
        }

        for (int i = 0; i < copy.Output.Count; i++)
        {
            copy.Output[i] = rename(copy.Output[i]);
        }
    });

    private static T Clone<T>(T message, Action<T> change)
        where T : IDeepCloneable<T>
    {
        T copy = message.Clone();
        change(copy);
        return copy;
    }

    private static void SetLayerCount(string path, int layers)
    {
        JsonNode config = JsonNode.Parse(File.ReadAllText(path))!;
        config["model"]!["decoder"]!["num_hidden_layers"] = JsonValue.Create(layers);
        File.WriteAllText(path, config.ToJsonString());
    }
}
