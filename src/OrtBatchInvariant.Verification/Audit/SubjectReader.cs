using System.Security.Cryptography;
using Microsoft.ML.OnnxRuntime;
using OrtBatchInvariant.Models.Onnx;
using OrtBatchInvariant.Verification.Device;
using OrtBatchInvariant.Verification.Hosting;

namespace OrtBatchInvariant.Verification.Audit;

/// <summary>Finds out what an audit ran on.</summary>
internal static class SubjectReader
{
    public static AuditSubject Read(DecoderModel model) => Read(model.Folder, ProviderName(model.Options), model.DeviceName, model.Coverage);

    /// <param name="folder">The model.</param>
    /// <param name="provider">Whose kernels ran it.</param>
    /// <param name="device">What it ran on.</param>
    /// <param name="coverage">Which kernel served each node; null with stock kernels.</param>
    public static AuditSubject Read(ModelFolder folder, string provider, string device, CoverageReport? coverage) => new(
        folder.Name,
        ModelDigest(folder),
        provider,
        device,
        OrtEnv.Instance().GetVersionString(),
        coverage is null ? "" : BatchInvariantProvider.Version,
        coverage?.InstructionSet ?? "",
        coverage is null ? [] : [.. coverage.Nodes.Select(node => node.Contract).Where(contract => contract.Length > 0).Distinct().Order(StringComparer.Ordinal)]);

    public static string ProviderName(DecoderModelOptions options) =>
        options.Kernels == KernelSet.BatchInvariant ? "batch-invariant" : options.DeviceId is null ? "cpu" : "cuda";

    private static string ModelDigest(ModelFolder folder)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Append(folder.DecoderFile);
        IEnumerable<string> locations = OnnxModel.Load(folder.DecoderFile).Tensors
            .SelectMany(tensor => tensor.ExternalData).Where(entry => entry.Key == "location").Select(entry => entry.Value);
        foreach (string location in locations.Distinct().Order(StringComparer.Ordinal))
        {
            Append(Path.Combine(Path.GetDirectoryName(folder.DecoderFile)!, location));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());

        void Append(string path)
        {
            using FileStream stream = File.OpenRead(path);
            hash.AppendData(SHA256.HashData(stream));
        }
    }
}
