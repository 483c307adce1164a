namespace OrtBatchInvariant;

/// <summary>An operator whose stock kernels give a row the same bytes in any batch.</summary>
/// <param name="Domain">The operator's domain; empty for ONNX's own.</param>
/// <param name="Op">The operator.</param>
/// <param name="Internal">Whether ONNX Runtime alone inserts it, so that no model file holds it.</param>
public sealed record InvariantOperator(string Domain, string Op, bool Internal);
