// The definition of norm.f32 in plain loops: the tree of 64 partial sums, and the two norms on it.
#ifndef BATCH_INVARIANT_KERNELS_REFERENCE_NORM_H_
#define BATCH_INVARIANT_KERNELS_REFERENCE_NORM_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/norm.h"

namespace batch_invariant::reference {

// Adds 64 partial sums in halves: p[j] += p[j + 32], then 16, 8, 4, 2, 1. Overwrites p.
inline float FoldPartials(float* p) {
  for (int half = contract::kReductionPartials / 2; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) p[j] += p[j + half];
  }
  return p[0];
}

// Sum of x[i] by the tree of norm.f32.
inline float TreeSum(const float* x, int64_t length) {
  float p[contract::kReductionPartials] = {};
  for (int64_t i = 0; i < length; ++i) p[i % contract::kReductionPartials] += x[i];
  return FoldPartials(p);
}

// Sum of x[i] * x[i] by the tree of norm.f32, each step one fma.
inline float TreeSumSquare(const float* x, int64_t length) {
  float p[contract::kReductionPartials] = {};
  for (int64_t i = 0; i < length; ++i) {
    float& partial = p[i % contract::kReductionPartials];
    partial = std::fma(x[i], x[i], partial);
  }
  return FoldPartials(p);
}

inline void Norm(const cpu::NormArgs& args, bool subtract_mean) {
  const int64_t width = args.width;
  std::vector<float> s(width), d(width);
  for (int64_t r = 0; r < args.rows; ++r) {
    for (int64_t i = 0; i < width; ++i) {
      s[i] = args.x[r * width + i];
      if (args.skip != nullptr) s[i] += args.skip[r % args.skip_rows * width + i];
      if (args.bias != nullptr) s[i] += args.bias[i];
    }
    if (args.sum != nullptr) {
      for (int64_t i = 0; i < width; ++i) args.sum[r * width + i] = s[i];
    }
    const float n = static_cast<float>(width);
    const float mean = subtract_mean ? TreeSum(s.data(), width) / n : 0.0f;
    for (int64_t i = 0; i < width; ++i) d[i] = subtract_mean ? s[i] - mean : s[i];
    const float inv = 1.0f / std::sqrt(TreeSumSquare(d.data(), width) / n + args.epsilon);
    if (args.mean != nullptr) args.mean[r] = mean;
    if (args.inv_std != nullptr) args.inv_std[r] = inv;
    for (int64_t i = 0; i < width; ++i) {
      const float scaled = d[i] * inv;
      const float gamma = args.gamma != nullptr ? args.gamma[i] : 1.0f;
      args.y[r * width + i] = subtract_mean && args.beta != nullptr
                                  ? std::fma(scaled, gamma, args.beta[i])
                                  : scaled * gamma;
    }
  }
}

inline void RmsNorm(const cpu::NormArgs& args) { Norm(args, false); }
inline void LayerNorm(const cpu::NormArgs& args) { Norm(args, true); }

}  // namespace batch_invariant::reference

#endif  // BATCH_INVARIANT_KERNELS_REFERENCE_NORM_H_
