#include "ort/ops/matmul_nbits_weights.h"

#include <array>

namespace batch_invariant::ort {
namespace {

Status Expect(const char* what, const Tensor& tensor, std::span<const int64_t> needed) {
  int64_t elements = 1;
  for (const int64_t d : needed) elements *= d;
  // Older models hold scales and zero points flat.
  if (tensor.Elements() == elements) return Status::Ok();
  return Status::InvalidArgument(std::string("MatMulNBits: ") + what + " is " +
                                 ShapeText(tensor.shape) + ", needed is " + ShapeText(needed));
}

}  // namespace

Status AcceptMatMulNBits(const NodeInfo& node) {
  if (node.Int("weight_prepacked", 0) != 0) {
    return Status::Unsupported("weights that were packed ahead (weight_prepacked) are not served");
  }
  return Status::Ok();
}

Status CheckMatMulNBitsWeights(const MatMulNBitsShape& shape, const Tensor& b, const Tensor& scales,
                               const Tensor& zero_points) {
  const int64_t blocks = (shape.k + shape.block_size - 1) / shape.block_size;
  const std::array<int64_t, 3> needed_b{shape.n, blocks, shape.block_size * shape.bits / 8};
  const std::array<int64_t, 2> per_block{shape.n, blocks};
  const std::array<int64_t, 2> packed{shape.n, (blocks * shape.bits + 7) / 8};
  BATCH_INVARIANT_RETURN_IF_ERROR(Expect("B", b, needed_b));
  BATCH_INVARIANT_RETURN_IF_ERROR(Expect("scales", scales, per_block));
  if (!zero_points.present) return Status::Ok();
  return Expect("zero_points", zero_points, zero_points.type == kUint8 ? packed : per_block);
}

Status ReadMatMulNBitsOperands(OpContext& context, int64_t k, int64_t n,
                               MatMulNBitsOperands* operands) {
  const Tensor& a = operands->a;
  const Tensor& bias = operands->bias;
  BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kNBitsA, &operands->a));
  BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(kNBitsBias, &operands->bias));
  if (a.shape.empty() || a.shape.back() != k) {
    return Status::InvalidArgument("MatMulNBits: A is " + ShapeText(a.shape) +
                                   ", its last dimension must be K = " + std::to_string(k));
  }
  if (bias.present && bias.Elements() != n) {
    return Status::InvalidArgument("MatMulNBits: bias is " + ShapeText(bias.shape) +
                                   ", needed is [" + std::to_string(n) + "]");
  }
  std::vector<int64_t> y_shape(a.shape.begin(), a.shape.end());
  y_shape.back() = n;
  return context.Output(0, y_shape, &operands->y);
}

}  // namespace batch_invariant::ort
