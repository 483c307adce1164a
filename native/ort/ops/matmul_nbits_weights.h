// The weights of MatMulNBits, checked once for every device.
#ifndef BATCH_INVARIANT_ORT_OPS_MATMUL_NBITS_WEIGHTS_H_
#define BATCH_INVARIANT_ORT_OPS_MATMUL_NBITS_WEIGHTS_H_

#include "ort/ops/op.h"

namespace batch_invariant::ort {

// What a node says of its weights.
struct MatMulNBitsShape {
  int64_t k = 0;
  int64_t n = 0;
  int64_t bits = 0;
  int64_t block_size = 0;
  bool has_zero_points = false;
  bool packs_zero_points = false;  // as uint8
  bool has_group_index = false;

  int64_t blocks() const { return (k + block_size - 1) / block_size; }
};
MatMulNBitsShape MatMulNBitsShapeOf(const NodeInfo& node);

// The inputs of the op.
enum MatMulNBitsInput : size_t {
  kNBitsA,
  kNBitsB,
  kNBitsScales,
  kNBitsZeroPoints,
  kNBitsGroupIndex,
  kNBitsBias,
};

// The op for activations of those types; accept, contract and create are the device's.
OpDefinition MatMulNBitsOp(const std::vector<ElementType>& types);

// Refuses what no device serves: weights that were packed ahead.
Status AcceptMatMulNBits(const NodeInfo& node);

// kInvalidArgument names the tensor whose size contradicts the attributes. Zero points may be
// absent, packed (uint8) or of the activations' type; the group index may be absent.
Status CheckMatMulNBitsWeights(const MatMulNBitsShape& shape, const Tensor& b, const Tensor& scales,
                               const Tensor& zero_points, const Tensor& group_index);

// The activations, the bias (may be absent) and the output of one call, their shapes checked.
struct MatMulNBitsOperands {
  Tensor a;
  Tensor bias;
  Tensor y;
};
Status ReadMatMulNBitsOperands(OpContext& context, int64_t k, int64_t n,
                               MatMulNBitsOperands* operands);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_MATMUL_NBITS_WEIGHTS_H_
