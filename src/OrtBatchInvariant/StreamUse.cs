namespace OrtBatchInvariant;

/// <summary>The streams of a GPU that the kernels of a session enqueued on. Replays of captured graphs call no kernel and do not count.</summary>
/// <param name="Runs">Runs of the session in which kernels were called.</param>
/// <param name="RunsOnSeveral">Those of them whose kernels were not all given one stream.</param>
/// <param name="CallsOnGiven">Kernel calls on a stream that ONNX Runtime named: beside its CUDA provider, that provider's.</param>
/// <param name="CallsOnOwn">Kernel calls on the session's own stream.</param>
public sealed record StreamUse(long Runs, long RunsOnSeveral, long CallsOnGiven, long CallsOnOwn);
