// Rows of RMS and layer normalisation, contract norm.f32 (formulas: batch_invariant/cpu/norm.h).
//
// Order: s, then the tree of reduce/tree_body.h over the row for the mean (layer only) and again
// for the squares, then one elementwise pass. Free: how rows are spread over threads.
#ifndef BATCH_INVARIANT_KERNELS_CPU_NORM_NORM_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_NORM_NORM_BODY_H_

#include "kernels/cpu/norm/norm_kernels.h"
#include "kernels/cpu/reduce/tree_body.h"

namespace batch_invariant::cpu::BI_SIMD {

template <bool kSubtractMean>
BI_INLINE void NormRow(const NormArgs& args, int64_t row) {
  const int64_t width = args.width;
  const float* x = args.x + row * width;
  const float* skip = args.skip != nullptr ? args.skip + row % args.skip_rows * width : nullptr;
  const float* bias = args.bias;
  const float* gamma = args.gamma;
  const float* beta = args.beta;
  float* y = args.y + row * width;

  // A sum that the later passes need and no output asks for waits in y.
  const float* s = x;
  if (skip != nullptr || bias != nullptr || args.sum != nullptr) {
    float* sum = args.sum != nullptr ? args.sum + row * width : y;
    ForEach16(width, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
      F32x16 value = LoadRow(whole, x + i, count);
      if (skip != nullptr) value = Add(value, LoadRow(whole, skip + i, count));
      if (bias != nullptr) value = Add(value, LoadRow(whole, bias + i, count));
      StoreRow(whole, sum + i, Canonical(value), count);
    });
    s = sum;
  }

  const F32x16 n = Splat(static_cast<float>(width));
  F32x16 mean = ZeroF32();
  if constexpr (kSubtractMean) {
    const float total = TreeSum(
        width, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA { return LoadRow(whole, s + i, count); });
    mean = Div(Splat(total), n);
  }
  const float square = TreeSumSquare(width, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    const F32x16 value = LoadRow(whole, s + i, count);
    return kSubtractMean ? Sub(value, mean) : value;
  });
  const F32x16 inv = Div(Splat(1.0f), Sqrt(Add(Div(Splat(square), n), Splat(args.epsilon))));
  if (args.mean != nullptr) StorePartial(args.mean + row, Canonical(mean), 1);
  if (args.inv_std != nullptr) StorePartial(args.inv_std + row, Canonical(inv), 1);

  ForEach16(width, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    F32x16 value = LoadRow(whole, s + i, count);
    if constexpr (kSubtractMean) value = Sub(value, mean);
    value = Mul(value, inv);
    if (kSubtractMean && beta != nullptr) {
      const F32x16 scale = gamma != nullptr ? LoadRow(whole, gamma + i, count) : Splat(1.0f);
      value = Fma(value, scale, LoadRow(whole, beta + i, count));
    } else if (gamma != nullptr) {
      value = Mul(value, LoadRow(whole, gamma + i, count));
    }
    StoreRow(whole, y + i, Canonical(value), count);
  });
}

static void RmsNormRows(const NormArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) NormRow<false>(args, row);
}
static void LayerNormRows(const NormArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) NormRow<true>(args, row);
}

extern const NormKernels kNormKernels;
const NormKernels kNormKernels = {kInstructionSet, RmsNormRows, LayerNormRows};

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_NORM_NORM_BODY_H_
