// The n-bit weights of QMoE in the form of MatMulNBits, expert by expert.
#ifndef BATCH_INVARIANT_ORT_OPS_QUANTIZED_EXPERTS_H_
#define BATCH_INVARIANT_ORT_OPS_QUANTIZED_EXPERTS_H_

#include "batch_invariant/cpu/matmul_nbits.h"
#include "ort/ops/op.h"

namespace batch_invariant::ort {

// One layer fc[experts, n, k] as a model holds it.
//   weights      uint8 [experts, n, k * bits / 8], low bits first
//   scales       [experts, n], or [experts, n, blocks] with block_size
//   zero_points  uint8 [experts, ceil(n * bits / 8)] (one a row, packed along n), or
//                [experts, n, ceil(blocks * bits / 8)]; absent: 2^(bits - 1)
struct QuantizedExperts {
  Tensor weights;
  Tensor scales;
  Tensor zero_points;
  int64_t bits = 4;
  int64_t block_size = 0;  // 0: one scale a row
  int64_t accuracy_level = 0;
};

// Whether scales and zero points go with the weights, which have three dimensions, where a row has
// so many blocks. kInvalidArgument: shapes that contradict each other.
Status CheckQuantizedExperts(const std::string& what, const QuantizedExperts& experts,
                             int64_t blocks_of_a_row);

// The plan of one expert. kInvalidArgument: shapes that contradict each other.
Status MakeExpertPlan(const std::string& what, const QuantizedExperts& experts,
                      cpu::MatMulNBitsPlan* plan);

// Packs all experts, one after the other, PackedMatMulNBitsBytes each.
Status PackExperts(const cpu::Context& cpu, const QuantizedExperts& experts,
                   const cpu::MatMulNBitsPlan& plan, std::byte* packed);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_QUANTIZED_EXPERTS_H_
