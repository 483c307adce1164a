using System.Runtime.InteropServices;
using Google.Protobuf;
using OrtBatchInvariant.Models.Onnx;
using DataType = OrtBatchInvariant.Models.Onnx.TensorProto.Types.DataType;

namespace OrtBatchInvariant.Models.Tests.Support;

/// <summary>
/// A graph for CUDA with every fp16 and bf16 value stated as fp32: the same nodes and the same weights, in a type that runs
/// on the CPU.
/// </summary>
internal static class WidenedModel
{
    public static void Write(string modelPath, string widenedPath)
    {
        var model = OnnxModel.Load(modelPath);
        var graph = model.Proto.Graph;
        foreach (var tensor in model.Tensors)
        {
            if (IsNarrow(tensor.DataType))
            {
                var values = Widen((DataType)tensor.DataType, model.ReadBytes(tensor));
                tensor.ExternalData.Clear();
                tensor.ClearDataLocation();
                tensor.DataType = (int)DataType.Float;
                tensor.RawData = ByteString.CopyFrom(MemoryMarshal.AsBytes(values.AsSpan()));
            }
        }

        foreach (var type in graph.Input.Concat(graph.Output).Concat(graph.ValueInfo).Select(value => value.Type.TensorType))
        {
            type.ElemType = IsNarrow(type.ElemType) ? (int)DataType.Float : type.ElemType;
        }

        foreach (var to in graph.Node.Where(node => node.OpType == "Cast").SelectMany(node => node.Attribute))
        {
            to.I = IsNarrow((int)to.I) ? (int)DataType.Float : to.I;
        }

        Directory.CreateDirectory(Path.GetDirectoryName(widenedPath)!);
        model.Save(widenedPath, new OnnxSaveOptions { ExternalData = false });
    }

    private static bool IsNarrow(int type) => (DataType)type is DataType.Float16 or DataType.Bfloat16;

    private static float[] Widen(DataType type, byte[] bytes) => type == DataType.Float16
        ? [.. MemoryMarshal.Cast<byte, Half>(bytes).ToArray().Select(x => (float)x)]
        : [.. MemoryMarshal.Cast<byte, ushort>(bytes).ToArray().Select(x => BitConverter.UInt32BitsToSingle((uint)x << 16))];
}
