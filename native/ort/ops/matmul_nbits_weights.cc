#include "ort/ops/matmul_nbits_weights.h"

#include <array>

#include "ort/ops/element_types.h"

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

OpDefinition MatMulNBitsOp(const std::vector<ElementType>& types) {
  std::vector<ElementType> zero_points{kUint8};
  zero_points.insert(zero_points.end(), types.begin(), types.end());
  OpDefinition op;
  op.domain = "com.microsoft";
  op.name = "MatMulNBits";
  op.since_first = op.since_last = 1;
  op.constraints = {{"T1", types}, {"T2", {kUint8}}, {"T3", zero_points}, {"T4", {kInt32}}};
  op.inputs = {{"T1"}, {"T2"}, {"T1"}, {"T3", true}, {"T4", true}, {"T1", true}};
  op.outputs = {{"T1"}};
  return op;
}

Status AcceptMatMulNBits(const NodeInfo& node) {
  if (node.Int("weight_prepacked", 0) != 0) {
    return Status::Unsupported("weights that were packed ahead (weight_prepacked) are not served");
  }
  return Status::Ok();
}

MatMulNBitsShape MatMulNBitsShapeOf(const NodeInfo& node) {
  MatMulNBitsShape shape;
  shape.k = node.Int("K", 0);
  shape.n = node.Int("N", 0);
  shape.bits = node.Int("bits", 4);
  shape.block_size = node.Int("block_size", 0);
  shape.has_zero_points = node.HasInput(kNBitsZeroPoints);
  shape.packs_zero_points = shape.has_zero_points && node.InputType(kNBitsZeroPoints) == kUint8;
  shape.has_group_index = node.HasInput(kNBitsGroupIndex);
  return shape;
}

Status CheckMatMulNBitsWeights(const MatMulNBitsShape& shape, const Tensor& b, const Tensor& scales,
                               const Tensor& zero_points, const Tensor& group_index) {
  const int64_t blocks = shape.blocks();
  const std::array<int64_t, 3> needed_b{shape.n, blocks, shape.block_size * shape.bits / 8};
  const std::array<int64_t, 2> per_block{shape.n, blocks};
  const std::array<int64_t, 2> packed{shape.n, (blocks * shape.bits + 7) / 8};
  BATCH_INVARIANT_RETURN_IF_ERROR(Expect("B", b, needed_b));
  BATCH_INVARIANT_RETURN_IF_ERROR(Expect("scales", scales, per_block));
  if (zero_points.present) {
    BATCH_INVARIANT_RETURN_IF_ERROR(
        Expect("zero_points", zero_points, zero_points.type == kUint8 ? packed : per_block));
  }
  // Models hold one index for each k, some for the padding of the last block too.
  if (!group_index.present || group_index.Elements() == blocks * shape.block_size) {
    return Status::Ok();
  }
  return Expect("g_idx", group_index, std::array<int64_t, 1>{shape.k});
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
