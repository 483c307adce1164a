// The weights of MatMulNBits, checked once for every device.
#ifndef BATCH_INVARIANT_ORT_OPS_MATMUL_NBITS_WEIGHTS_H_
#define BATCH_INVARIANT_ORT_OPS_MATMUL_NBITS_WEIGHTS_H_

#include "ort/ops/op.h"

namespace batch_invariant::ort {

struct MatMulNBitsShape {
  int64_t k = 0;
  int64_t n = 0;
  int64_t bits = 0;
  int64_t block_size = 0;
};

// Refuses what no device serves: g_idx and weights that were packed ahead.
Status AcceptMatMulNBits(const NodeInfo& node);

// kInvalidArgument names the tensor whose size contradicts the attributes. Zero points may be
// absent, packed (uint8) or of the activations' type.
Status CheckMatMulNBitsWeights(const MatMulNBitsShape& shape, const Tensor& b, const Tensor& scales,
                               const Tensor& zero_points);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_MATMUL_NBITS_WEIGHTS_H_
