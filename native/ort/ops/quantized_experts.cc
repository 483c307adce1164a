#include "ort/ops/quantized_experts.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace batch_invariant::ort {
namespace {

// A row with one scale is cut into blocks of this many that all have it.
constexpr int64_t kRowBlock = 256;

uint8_t Extract(const uint8_t* bytes, int64_t index, int64_t bits) {
  const int64_t bit = index * bits;
  return static_cast<uint8_t>((bytes[bit / 8] >> (bit % 8)) & ((1 << bits) - 1));
}

bool HasShape(const Tensor& tensor, std::span<const int64_t> shape) {
  return std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end());
}

Status Wrong(const std::string& what, const Tensor& tensor, std::span<const int64_t> needed) {
  return Status::InvalidArgument("QMoE: " + what + " is " + ShapeText(tensor.shape) +
                                 ", needed is " + ShapeText(needed));
}

bool IsByRow(const Tensor& tensor) { return tensor.shape.size() == 2; }

}  // namespace

Status CheckQuantizedExperts(const std::string& what, const QuantizedExperts& experts,
                             int64_t blocks_of_a_row) {
  const auto& shape = experts.weights.shape;
  const int64_t n = shape[1];
  const bool by_row = experts.block_size == 0;
  const std::array<int64_t, 3> scales{shape[0], n, blocks_of_a_row};
  const std::span<const int64_t> needed(scales.data(), by_row ? 2 : 3);
  if (!HasShape(experts.scales, needed)) return Wrong(what + "_scales", experts.scales, needed);
  if (!experts.zero_points.present) return Status::Ok();
  const std::array<int64_t, 2> rows{shape[0], (n * experts.bits + 7) / 8};
  const std::array<int64_t, 3> blocks{shape[0], n, (blocks_of_a_row * experts.bits + 7) / 8};
  const bool rows_have_one = by_row || (blocks_of_a_row == 1 && IsByRow(experts.zero_points));
  const std::span<const int64_t> zeros =
      rows_have_one ? std::span<const int64_t>(rows) : std::span<const int64_t>(blocks);
  if (HasShape(experts.zero_points, zeros)) return Status::Ok();
  return Wrong(what + "_zero_points", experts.zero_points, zeros);
}

Status MakeExpertPlan(const std::string& what, const QuantizedExperts& experts,
                      cpu::MatMulNBitsPlan* plan) {
  const auto& shape = experts.weights.shape;
  if (shape.size() != 3 || experts.weights.Elements() == 0) {
    return Status::InvalidArgument("QMoE: " + what + "_experts_weights is " + ShapeText(shape) +
                                   ", needed is [num_experts, rows, packed columns]");
  }
  const int64_t n = shape[1], k = shape[2] * 8 / experts.bits;
  const bool by_row = experts.block_size == 0;
  const int64_t block = by_row ? kRowBlock : experts.block_size;
  const auto zero_points =
      experts.zero_points.present ? cpu::ZeroPoints::kPacked : cpu::ZeroPoints::kDefault;
  // One scale a row leaves no block along which activations could be rounded to int8.
  BATCH_INVARIANT_RETURN_IF_ERROR(cpu::MakeMatMulNBitsPlan(
      k, n, experts.bits, block, by_row ? 0 : experts.accuracy_level, zero_points, plan));

  return CheckQuantizedExperts(what, experts, plan->blocks());
}

Status PackExperts(const cpu::Context& cpu, const QuantizedExperts& experts,
                   const cpu::MatMulNBitsPlan& plan, std::byte* packed) {
  const int64_t n = plan.n, blocks = plan.blocks();
  const int64_t row_bytes = plan.k * plan.bits / 8;
  const int64_t padded_bytes = blocks * plan.block_size * plan.bits / 8;
  const int64_t zero_bytes = (blocks * plan.bits + 7) / 8;
  const bool by_row = IsByRow(experts.scales);
  std::vector<uint8_t> weights(
      static_cast<size_t>(row_bytes == padded_bytes ? 0 : n * padded_bytes));
  std::vector<float> scales(static_cast<size_t>(by_row ? n * blocks : 0));
  std::vector<uint8_t> zeros(static_cast<size_t>(n * zero_bytes));
  const size_t expert_bytes = cpu::PackedMatMulNBitsBytes(plan);
  for (int64_t e = 0; e < experts.weights.shape[0]; ++e) {
    const uint8_t* b = experts.weights.Data<uint8_t>() + e * n * row_bytes;
    if (!weights.empty()) {
      for (int64_t row = 0; row < n; ++row) {
        std::memcpy(weights.data() + row * padded_bytes, b + row * row_bytes,
                    static_cast<size_t>(row_bytes));
      }
      b = weights.data();
    }
    const float* scale = experts.scales.Data<float>() + e * n * (by_row ? 1 : blocks);
    if (by_row) {
      for (int64_t i = 0; i < n * blocks; ++i) scales[static_cast<size_t>(i)] = scale[i / blocks];
      scale = scales.data();
    }
    const uint8_t* zero = nullptr;
    if (experts.zero_points.present) {
      zero = experts.zero_points.Data<uint8_t>() +
             e * (experts.zero_points.Elements() / experts.weights.shape[0]);
      if (IsByRow(experts.zero_points)) {
        std::fill(zeros.begin(), zeros.end(), uint8_t{0});
        for (int64_t i = 0; i < n * blocks; ++i) {
          const int64_t bit = i % blocks * plan.bits;
          zeros[static_cast<size_t>(i / blocks * zero_bytes + bit / 8)] |=
              static_cast<uint8_t>(Extract(zero, i / blocks, plan.bits) << (bit % 8));
        }
        zero = zeros.data();
      }
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(cpu::PackMatMulNBits(
        cpu, plan, b, scale, zero, packed + static_cast<size_t>(e) * expert_bytes));
  }
  return Status::Ok();
}

}  // namespace batch_invariant::ort
