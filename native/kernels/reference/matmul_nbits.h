// The definition of contracts gemm.nbits.f32 and gemm.nbits.s8, in plain loops over the weights as
// a model holds them.
#ifndef BATCH_INVARIANT_KERNELS_REFERENCE_MATMUL_NBITS_H_
#define BATCH_INVARIANT_KERNELS_REFERENCE_MATMUL_NBITS_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "batch_invariant/cpu/matmul_nbits.h"
#include "kernels/reference/matmul.h"

namespace batch_invariant::reference {

struct NBitsWeights {
  const uint8_t* b = nullptr;         // [n, blocks, block_size * bits / 8]
  const float* scales = nullptr;      // [n, blocks]
  const void* zero_points = nullptr;  // by plan.zero_points
  const int32_t* group_index = nullptr;
};

// Value `index` of packed values, low bits first.
inline int NBitsValue(const uint8_t* bytes, int64_t index, int bits) {
  const int64_t bit = index * bits;
  return (bytes[bit / 8] >> (bit % 8)) & ((1 << bits) - 1);
}

inline int NBitsQuantum(const cpu::MatMulNBitsPlan& plan, const NBitsWeights& weights, int64_t n,
                        int64_t k) {
  const int64_t row_bytes = plan.blocks() * plan.block_size * plan.bits / 8;
  return NBitsValue(weights.b + n * row_bytes, k, plan.bits);
}

inline float NBitsZeroPoint(const cpu::MatMulNBitsPlan& plan, const NBitsWeights& weights,
                            int64_t n, int64_t block) {
  switch (plan.zero_points) {
    case cpu::ZeroPoints::kPacked: {
      const int64_t row_bytes = (plan.blocks() * plan.bits + 7) / 8;
      return static_cast<float>(NBitsValue(
          static_cast<const uint8_t*>(weights.zero_points) + n * row_bytes, block, plan.bits));
    }
    case cpu::ZeroPoints::kFloat:
      return static_cast<const float*>(weights.zero_points)[n * plan.blocks() + block];
    default:
      return static_cast<float>(1 << (plan.bits - 1));
  }
}

inline void MatMulNBitsF32(const cpu::MatMulNBitsPlan& plan, const NBitsWeights& weights,
                           const cpu::MatMulNBitsArgs& args) {
  for (int64_t i = 0; i < args.m; ++i) {
    for (int64_t n = 0; n < plan.n; ++n) {
      float acc = 0.0f;
      for (int64_t k = 0; k < plan.k; ++k) {
        const int64_t block =
            plan.has_group_index ? weights.group_index[k] : k / plan.block_size;
        const float q = static_cast<float>(NBitsQuantum(plan, weights, n, k));
        const float w = (q - NBitsZeroPoint(plan, weights, n, block)) *
                        weights.scales[n * plan.blocks() + block];
        acc = std::fma(args.a[i * args.a_row_stride + k], w, acc);
      }
      if (args.bias != nullptr) acc += args.bias[n];
      args.y[i * args.y_row_stride + n] = Canonical(acc);
    }
  }
}

// One block of activations: values and their scale. Where a * inverse is not a number (the block
// holds NaN or infinity) the value is 0; the scale then carries the NaN or infinity to the output.
struct NBitsInt8Block {
  int values[256] = {};
  float scale = 0.0f;
};
inline NBitsInt8Block QuantizeBlock(const float* a, int64_t count) {
  NBitsInt8Block result;
  float largest = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    const float magnitude = std::abs(a[i]);
    if (std::isnan(magnitude) || magnitude > largest) largest = magnitude;
    if (std::isnan(largest)) break;
  }
  const float inverse = largest == 0.0f ? 0.0f : 127.0f / largest;
  for (int64_t i = 0; i < count; ++i) {
    float scaled = a[i] * inverse;
    if (std::isnan(scaled)) scaled = 0.0f;
    result.values[i] = static_cast<int>(std::nearbyint(std::clamp(scaled, -127.0f, 127.0f)));
  }
  result.scale = largest / 127.0f;
  return result;
}

inline void MatMulNBitsS8(const cpu::MatMulNBitsPlan& plan, const NBitsWeights& weights,
                          const cpu::MatMulNBitsArgs& args) {
  for (int64_t i = 0; i < args.m; ++i) {
    for (int64_t n = 0; n < plan.n; ++n) {
      float acc = 0.0f;
      for (int64_t block = 0; block < plan.blocks(); ++block) {
        const int64_t first = block * plan.block_size;
        const int64_t count = std::min(plan.block_size, plan.k - first);
        const NBitsInt8Block a = QuantizeBlock(args.a + i * args.a_row_stride + first, count);
        const int zero = static_cast<int>(NBitsZeroPoint(plan, weights, n, block));
        int32_t d = 0;
        for (int64_t k = 0; k < count; ++k) {
          d += a.values[k] * (NBitsQuantum(plan, weights, n, first + k) - zero);
        }
        const float scale = a.scale * weights.scales[n * plan.blocks() + block];
        acc = std::fma(static_cast<float>(d), scale, acc);
      }
      if (args.bias != nullptr) acc += args.bias[n];
      args.y[i * args.y_row_stride + n] = Canonical(acc);
    }
  }
}

inline void MatMulNBits(const cpu::MatMulNBitsPlan& plan, const NBitsWeights& weights,
                        const cpu::MatMulNBitsArgs& args) {
  if (plan.int8_activations) {
    MatMulNBitsS8(plan, weights, args);
  } else {
    MatMulNBitsF32(plan, weights, args);
  }
}

}  // namespace batch_invariant::reference

#endif  // BATCH_INVARIANT_KERNELS_REFERENCE_MATMUL_NBITS_H_
