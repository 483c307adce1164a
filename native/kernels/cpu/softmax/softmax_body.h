// Rows of Softmax and LogSoftmax, contract softmax.f32 (formulas: batch_invariant/cpu/softmax.h).
//
// Order: the maximum (exact in any order), the exponentials summed by the tree of
// reduce/tree_body.h, one elementwise pass. Free: how rows are spread over threads.
#ifndef BATCH_INVARIANT_KERNELS_CPU_SOFTMAX_SOFTMAX_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_SOFTMAX_SOFTMAX_BODY_H_

#include "kernels/cpu/reduce/tree_body.h"
#include "kernels/cpu/simd/math.h"
#include "kernels/cpu/softmax/log_body.h"
#include "kernels/cpu/softmax/softmax_kernels.h"

namespace batch_invariant::cpu::BI_SIMD {

// A NaN may be lost here; it comes back through its own exponential.
BI_INLINE float RowMax(const float* x, int64_t length) {
  const auto larger = [](F32x16 p, F32x16 v) BI_INLINE_LAMBDA { return Max(v, p); };
  return ReduceMax(FoldTree(
      length, FromBits(Splat(static_cast<int32_t>(0xff800000u))),
      [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA { return LoadRow(whole, x + i, count); }, larger,
      larger));
}

// x and y are contiguous and may be the same.
static void SoftmaxRow(const float* x, float* y, int64_t length) {
  const F32x16 max = Splat(RowMax(x, length));
  const F32x16 sum = Splat(TreeSum(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    const F32x16 e = ExpOfNonPositive(Sub(LoadRow(whole, x + i, count), max));
    StoreRow(whole, y + i, e, count);
    return e;
  }));
  // Without a NaN among them all exponentials are finite and their sum is at least 1.
  if (Any(IsNan(sum))) {
    ForEach16(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
      StoreRow(whole, y + i, Canonical(sum), count);
    });
    return;
  }
  const F32x16 scale = Div(Splat(1.0f), sum);
  ForEach16(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    StoreRow(whole, y + i, Mul(LoadRow(whole, y + i, count), scale), count);
  });
}

static void LogSoftmaxRow(const float* x, float* y, int64_t length) {
  const F32x16 max = Splat(RowMax(x, length));
  const F32x16 log_sum = Splat(LogOfSum(TreeSum(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    return ExpOfNonPositive(Sub(LoadRow(whole, x + i, count), max));
  })));
  ForEach16(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    const F32x16 shifted = Sub(LoadRow(whole, x + i, count), max);
    StoreRow(whole, y + i, Canonical(Sub(shifted, log_sum)), count);
  });
}

extern const SoftmaxKernels kSoftmaxKernels;
const SoftmaxKernels kSoftmaxKernels = {kInstructionSet, SoftmaxRow, LogSoftmaxRow};

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_SOFTMAX_SOFTMAX_BODY_H_
