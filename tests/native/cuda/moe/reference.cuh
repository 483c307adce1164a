// The routing and the sum of a mixture of experts as plainly as they can be written: one thread a
// token.
#ifndef BATCH_INVARIANT_TESTS_CUDA_MOE_REFERENCE_CUH_
#define BATCH_INVARIANT_TESTS_CUDA_MOE_REFERENCE_CUH_

#include <cstdint>

#include "batch_invariant/cuda/moe.h"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/elementwise/functions.cuh"

namespace batch_invariant::cuda::test {

inline constexpr int kMaxReferenceExperts = 256;

// weights [tokens, experts]: that of a chosen expert, -1 elsewhere.
template <typename T>
__global__ void ReferenceWeights(MoeArgs args, float* weights) {
  const std::int64_t token = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (token >= args.tokens) return;
  const int experts = static_cast<int>(args.experts), k = static_cast<int>(args.k);
  float value[kMaxReferenceExperts];
  int order[kMaxReferenceExperts];
  for (int e = 0; e < experts; ++e) {
    value[e] = ToFloat(static_cast<const T*>(args.router)[token * experts + e]);
    // Insertion behind those that go first.
    int at = e;
    for (; at > 0; --at) {
      const float other = value[order[at - 1]], own = value[e];
      const bool own_first = own != own || (other == other && own >= other);
      if (!own_first) break;
      order[at] = order[at - 1];
    }
    order[at] = e;
  }
  float chosen[kMaxReferenceExperts];
  if (args.weights == RouterWeights::kGiven) {
    for (int i = 0; i < k; ++i) {
      chosen[i] = ToFloat(static_cast<const T*>(args.router_weights)[token * experts + order[i]]);
    }
  } else {
    const bool of_chosen = args.weights == RouterWeights::kSoftmaxOfChosen;
    const int count = of_chosen ? k : experts;
    const float m = value[order[0]];  // the largest, or NaN
    float partial[32] = {};
    for (int i = 0; i < count; ++i) {
      const float v = value[of_chosen ? order[i] : i];
      partial[i % 32] = __fadd_rn(partial[i % 32], Exp(__fsub_rn(v, m)));
    }
    for (int half = 16; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) partial[i] = __fadd_rn(partial[i], partial[i + half]);
    }
    for (int i = 0; i < k; ++i) {
      chosen[i] = __fdiv_rn(Exp(__fsub_rn(value[order[i]], m)), partial[0]);
    }
  }
  float sum = 0.0f;
  for (int i = 0; i < k; ++i) sum = __fadd_rn(sum, chosen[i]);
  float* row = weights + token * experts;
  for (int e = 0; e < experts; ++e) row[e] = -1.0f;
  for (int i = 0; i < k; ++i) {
    float weight = chosen[i];
    if (args.normalize) weight = sum == 0.0f ? 0.0f : __fdiv_rn(weight, sum);
    row[order[i]] = weight;
  }
}

// activated [rows, inter] of first [rows, fc1 columns].
template <typename T>
__global__ void ReferenceActivate(MoeArgs args, std::int64_t rows, const T* first, T* activated) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= rows * args.inter) return;
  const std::int64_t row = i / args.inter, column = i % args.inter;
  float y;
  if (args.activation == ExpertActivation::kSwiGlu) {
    const T* from = first + row * 2 * args.inter;
    float g = ToFloat(from[args.interleaved ? 2 * column : column]);
    float l = ToFloat(from[args.interleaved ? 2 * column + 1 : args.inter + column]);
    if (g > args.limit) g = args.limit;
    if (l > args.limit) l = args.limit;
    if (l < -args.limit) l = -args.limit;
    y = __fmul_rn(__fmul_rn(g, Sigmoid(__fmul_rn(args.alpha, g))), __fadd_rn(l, args.beta));
  } else {
    y = ToFloat(first[i]);
    if (args.activation == ExpertActivation::kRelu) y = ApplyUnary(UnaryOp::kRelu, y, 0.0f);
    if (args.activation == ExpertActivation::kGelu) y = ApplyUnary(UnaryOp::kGeluTanh, y, 0.0f);
    if (args.activation == ExpertActivation::kSilu) y = ApplyUnary(UnaryOp::kSilu, y, 0.0f);
  }
  activated[i] = FromFloat<T>(y);
}

// y [tokens, hidden] of z [experts, tokens, hidden].
template <typename T>
__global__ void ReferenceSum(MoeArgs args, const float* weights, const T* z, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= args.tokens * args.hidden) return;
  const std::int64_t token = i / args.hidden;
  float sum = 0.0f;
  for (std::int64_t e = 0; e < args.experts; ++e) {
    const float weight = weights[token * args.experts + e];
    if (weight <= 0.0f) continue;
    sum = __fadd_rn(sum, __fmul_rn(weight, ToFloat(z[e * args.tokens * args.hidden + i])));
  }
  if (sizeof(T) == 4 && sum != sum) sum = __uint_as_float(0x7fc00000u);
  y[i] = FromFloat<T>(sum);
}

}  // namespace batch_invariant::cuda::test

#endif  // BATCH_INVARIANT_TESTS_CUDA_MOE_REFERENCE_CUH_
