#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

std::span<const OpDefinition> CpuOps() {
  static const std::vector<OpDefinition>* ops = [] {
    auto* list = new std::vector<OpDefinition>();
    AppendMatMul(*list);
    AppendGemm(*list);
    AppendMatMulNBits(*list);
    AppendMoe(*list);
    AppendNorm(*list);
    AppendEmbedLayerNorm(*list);
    AppendSoftmax(*list);
    AppendGroupQueryAttention(*list);
    AppendMultiHeadAttention(*list);
    AppendPackedAttention(*list);
    AppendOnnxAttention(*list);
    AppendRotaryEmbedding(*list);
    AppendElementwise(*list);
    AppendReduce(*list);
    AppendPow(*list);
    return list;
  }();
  return *ops;
}

}  // namespace batch_invariant::ort
