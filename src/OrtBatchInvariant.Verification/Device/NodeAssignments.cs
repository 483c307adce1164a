using System.Text.Json;

namespace OrtBatchInvariant.Verification.Device;

/// <summary>Where a node ran.</summary>
/// <param name="Name">The node.</param>
/// <param name="Op">Its operator.</param>
/// <param name="Provider">The provider whose kernel ran.</param>
/// <param name="OutputElements">Elements of its outputs.</param>
/// <param name="HasFloatOutput">Whether an output is of a floating-point type.</param>
public sealed record NodeAssignment(string Name, string Op, string Provider, long OutputElements, bool HasFloatOutput)
{
    // The longest shape vector or reduction of one that a decoder graph computes with.
    private const int ShapeElements = 8;

    /// <summary>Whether the node computes with shapes: a few whole numbers, whatever the model does.</summary>
    public bool IsShapeArithmetic => !HasFloatOutput && OutputElements <= ShapeElements;
}

/// <summary>Reads which provider ran each node from a profile of ONNX Runtime: what happened, not what was planned.</summary>
public static class NodeAssignments
{
    private const string KernelSuffix = "_kernel_time";

    /// <summary>The nodes of a profile, each once.</summary>
    /// <param name="profilePath">A file that <see cref="DecoderModel.EndProfiling"/> named.</param>
    /// <exception cref="VerificationException">The file is no profile, or no node ran.</exception>
    public static IReadOnlyList<NodeAssignment> Read(string profilePath)
    {
        var nodes = new Dictionary<string, NodeAssignment>();
        try
        {
            using JsonDocument profile = JsonDocument.Parse(File.ReadAllBytes(profilePath));
            foreach (JsonElement item in profile.RootElement.EnumerateArray())
            {
                if (item.TryGetProperty("cat", out JsonElement category) && category.GetString() == "Node"
                    && item.GetProperty("name").GetString() is { } name && name.EndsWith(KernelSuffix, StringComparison.Ordinal))
                {
                    name = name[..^KernelSuffix.Length];
                    nodes[name] = Parse(name, item.GetProperty("args"));
                }
            }
        }
        catch (Exception exception) when (exception is JsonException or KeyNotFoundException or InvalidOperationException or IOException)
        {
            throw new VerificationException($"{profilePath}: not a profile of ONNX Runtime ({exception.Message.TrimEnd('.')}).", exception);
        }

        return nodes.Count > 0 ? [.. nodes.Values] : throw new VerificationException($"{profilePath}: the profile names no node, so nothing ran.");
    }

    private static NodeAssignment Parse(string name, JsonElement args)
    {
        long elements = 0;
        bool hasFloat = false;
        if (args.TryGetProperty("output_type_shape", out JsonElement outputs))
        {
            foreach (JsonProperty output in outputs.EnumerateArray().SelectMany(output => output.EnumerateObject()))
            {
                elements += output.Value.EnumerateArray().Aggregate(1L, (product, size) => product * size.GetInt64());
                hasFloat |= output.Name.Contains("float", StringComparison.Ordinal) || output.Name.Contains("double", StringComparison.Ordinal);
            }
        }

        return new NodeAssignment(name, args.GetProperty("op_name").GetString() ?? "", args.GetProperty("provider").GetString() ?? "", elements, hasFloat);
    }
}
