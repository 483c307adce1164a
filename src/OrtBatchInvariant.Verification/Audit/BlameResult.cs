namespace OrtBatchInvariant.Verification.Audit;

/// <summary>A node whose output differs.</summary>
/// <param name="Name">The node.</param>
/// <param name="Op">Its operator.</param>
/// <param name="Provider">The provider whose kernel ran it; empty if ONNX Runtime did not say.</param>
/// <param name="Shapes">Inputs and outputs in the run where it differs, with their shapes.</param>
/// <param name="Order">Its place in topological order, counted from 0.</param>
/// <param name="ElementsCompared">Elements of its outputs that were compared.</param>
/// <param name="ElementsDifferent">Those of them whose bytes differ.</param>
/// <param name="MaxUlp">The largest difference, in representable numbers of the type.</param>
/// <param name="RelativeDifference">Root mean square of the difference over that of the output, in the positions that differ.</param>
public sealed record BlamedNode(
    string Name, string Op, string Provider, string Shapes, int Order, long ElementsCompared, long ElementsDifferent, long MaxUlp, double RelativeDifference);

/// <summary>How far the outputs of nodes are from their reference, along the depth of the model.</summary>
/// <param name="Node">The node.</param>
/// <param name="Order">Its place in topological order.</param>
/// <param name="Layer">The layer that its name tells, counted from 0; null where it tells none.</param>
/// <param name="RelativeDifference">Root mean square of the difference over that of the output.</param>
public sealed record NodeDifference(string Node, int Order, int? Layer, double RelativeDifference);

/// <summary>The nodes that make the logits of a batch differ.</summary>
/// <param name="AxisId">The axis whose batch was examined, as a command line names it.</param>
/// <param name="Axis">Its name.</param>
/// <param name="Batch">The batch, in words.</param>
/// <param name="Against">What it was compared with, in words.</param>
/// <param name="First">The first node in topological order whose output differs; null if the difference did not come back.</param>
/// <param name="Introducing">Nodes that were given equal inputs and gave different outputs, most harmful first.</param>
/// <param name="Nodes">Every node with a floating-point output that could be compared.</param>
/// <param name="GraphOptimizations">Whether ONNX Runtime's graph optimisations were on while nodes were examined.</param>
/// <param name="NodesExamined">Nodes that were given equal inputs.</param>
/// <param name="Note">What else is to be known; null if nothing is.</param>
public sealed record BlameResult(
    string AxisId,
    string Axis,
    string Batch,
    string Against,
    BlamedNode? First,
    IReadOnlyList<BlamedNode> Introducing,
    IReadOnlyList<NodeDifference> Nodes,
    bool GraphOptimizations,
    int NodesExamined,
    string? Note);
