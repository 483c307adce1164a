#include "ort/ops/cuda/op_table.h"

namespace batch_invariant::ort {

std::span<const OpDefinition> CudaOps() {
  static const std::vector<OpDefinition>* ops = [] {
    auto* list = new std::vector<OpDefinition>();
    AppendCudaMemcpy(*list);
    AppendCudaGemm(*list);
    AppendCudaAttention(*list);
    return list;
  }();
  return *ops;
}

}  // namespace batch_invariant::ort
