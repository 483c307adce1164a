#include "ort/ops/cuda/op_table.h"

namespace batch_invariant::ort {

std::span<const OpDefinition> CudaOps() {
  static const std::vector<OpDefinition>* ops = [] {
    auto* list = new std::vector<OpDefinition>();
    AppendCudaMemcpy(*list);
    AppendCudaGemm(*list);
    AppendCudaMatMulNBits(*list);
    AppendCudaMoe(*list);
    AppendCudaNorm(*list);
    AppendCudaEmbedLayerNorm(*list);
    AppendCudaSoftmax(*list);
    AppendCudaReduce(*list);
    AppendCudaAttention(*list);
    AppendCudaMultiHeadAttention(*list);
    AppendCudaRotaryEmbedding(*list);
    AppendCudaElementwise(*list);
    AppendCudaPow(*list);
    AppendCudaGather(*list);
    AppendCudaLayout(*list);
    return list;
  }();
  return *ops;
}

}  // namespace batch_invariant::ort
