using System.Text.Json.Nodes;
using Google.Protobuf;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Verification.Hosting;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Verification.Tests.Support;

/// <summary>Decoders as other exporters write them, made from those of this one.</summary>
internal static class GraphVariants
{
    /// <summary>Past and present in two tensors, of which the second is the longer one.</summary>
    public static ModelFolder GrowingCache(ModelFolder model) => Copy(model, "growing", _ => { });

    /// <summary>No keys and values go in or come out.</summary>
    public static ModelFolder NoCache(ModelFolder model) => Copy(model, "no-cache", graph =>
    {
        foreach (NodeProto attention in graph.Node.Where(node => node.OpType == "GroupQueryAttention"))
        {
            attention.Input[3] = "";
            attention.Input[4] = "";
            while (attention.Output.Count > 1)
            {
                attention.Output.RemoveAt(1);
            }
        }

        RemoveAll(graph.Input, value => value.Name.StartsWith("past", StringComparison.Ordinal));
        RemoveAll(graph.Output, value => value.Name.StartsWith("present", StringComparison.Ordinal));
    });

    /// <summary>Token ids and the attention mask are of type int32.</summary>
    public static ModelFolder Int32Inputs(ModelFolder model) => Copy(model, "int32", graph =>
    {
        foreach (string name in (string[])["input_ids", "attention_mask"])
        {
            graph.Input.Single(input => input.Name == name).Type.TensorType.ElemType = (int)DataType.Int32;
            Rename(graph, name, $"{name}_int64");
            graph.Node.Insert(0, Node("Cast", [name], $"{name}_int64", AttributeProto.Of("to", (long)DataType.Int64)));
        }
    });

    /// <summary>Positions instead of an attention mask: rows are equally long, and their length is that of the last position.</summary>
    public static ModelFolder PositionsInsteadOfMask(ModelFolder model) => Copy(model, "positions", graph =>
    {
        RemoveAll(graph.Input, input => input.Name == "attention_mask");
        ValueInfoProto positions = graph.Input.Single(input => input.Name == "input_ids").Clone();
        positions.Name = "position_ids";
        graph.Input.Add(positions);
        graph.Initializer.Add(Whole("positions/one", [1]));
        var ones = AttributeProto.Of("value", Whole("", [1]));
        NodeProto[] nodes =
        [
            Node("Shape", ["input_ids"], "positions/rows", AttributeProto.Of("start", 0), AttributeProto.Of("end", 1)),
            Node("ReduceMax", ["position_ids"], "positions/last", AttributeProto.Of("keepdims", 0)),
            Node("Reshape", ["positions/last", "positions/one"], "positions/last_1"),
            Node("Add", ["positions/last_1", "positions/one"], "positions/length"),
            Node("Concat", ["positions/rows", "positions/length"], "positions/shape", AttributeProto.Of("axis", 0)),
            Node("ConstantOfShape", ["positions/shape"], "attention_mask", ones),
        ];
        for (int i = 0; i < nodes.Length; i++)
        {
            graph.Node.Insert(i, nodes[i]);
        }
    });

    private static TensorProto Whole(string name, long[] values) => new() { Name = name, DataType = (int)DataType.Int64, Dims = { values.Length }, Int64Data = { values } };

    private static NodeProto Node(string op, string[] inputs, string output, params AttributeProto[] attributes) =>
        new() { OpType = op, Name = $"{output}/{op}", Input = { inputs }, Output = { output }, Attribute = { attributes } };

    private static void Rename(GraphProto graph, string from, string to)
    {
        foreach (NodeProto node in graph.Node)
        {
            for (int i = 0; i < node.Input.Count; i++)
            {
                node.Input[i] = node.Input[i] == from ? to : node.Input[i];
            }
        }
    }

    private static void RemoveAll(Google.Protobuf.Collections.RepeatedField<ValueInfoProto> values, Func<ValueInfoProto, bool> condition)
    {
        ValueInfoProto[] kept = [.. values.Where(value => !condition(value))];
        values.Clear();
        values.AddRange(kept);
    }

    // None of them takes one buffer for past and present.
    private static ModelFolder Copy(ModelFolder model, string name, Action<GraphProto> change)
    {
        string folder = $"{model.Path}-{name}";
        if (!Directory.Exists(folder))
        {
            Directory.CreateDirectory(folder);
            foreach (string file in Directory.EnumerateFiles(model.Path))
            {
                File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
            }

            string onnx = Path.Combine(folder, Path.GetFileName(model.DecoderFile));
            ModelProto proto = OnnxModel.Load(onnx).Proto;
            change(proto.Graph);
            File.WriteAllBytes(onnx, proto.ToByteArray());
            string config = Path.Combine(folder, "genai_config.json");
            JsonNode root = JsonNode.Parse(File.ReadAllText(config))!;
            root["search"]!["past_present_share_buffer"] = false;
            File.WriteAllText(config, root.ToJsonString());
        }

        return ModelFolder.Open(folder);
    }
}
