// RotaryEmbedding on CUDA.
#include "batch_invariant/cuda/rotary.h"
#include "ort/ops/cuda/cuda_types.h"
#include "ort/ops/cuda/op_table.h"
#include "ort/ops/rotary_embedding_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cuda {
  using Args = cuda::RotaryArgs;
  using Positions = cuda::RotaryPositions;
  static std::vector<ElementType> Types() { return kCudaFloats; }
  static const char* Contract(const NodeInfo&) { return cuda::kRotaryContract; }
  static Status Run(OpContext& context, ElementType type, Args args) {
    args.type = CudaType(type);
    return cuda::Rotary(args, CudaStream(context));
  }
};

}  // namespace

void AppendCudaRotaryEmbedding(std::vector<OpDefinition>& ops) {
  AppendRotaryEmbeddingOps<Cuda>(ops);
}

}  // namespace batch_invariant::ort
