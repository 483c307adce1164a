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

// y = e^(x - max), whatever x is.
static BI_NOINLINE void ExpOfAny(const float* x, float max, float* y, int64_t length) {
  ForEach16(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    StoreRow(whole, y + i, Exp(Sub(LoadRow(whole, x + i, count), Splat(max))), count);
  });
}

// y = e^(x - max), two vectors at a time where all of their differences are moderate.
static void ExpRow(const float* x, float max, float* y, int64_t length) {
  int64_t i = 0;
  for (; i + 32 <= length; i += 32) {
    F32x16 e[2] = {Sub(Load(x + i), Splat(max)), Sub(Load(x + i + 16), Splat(max))};
    const F32x16 least = Splat(kLeastModerate);
    if (!All(And(LessEqual(least, e[0]), LessEqual(least, e[1])))) {
      ExpOfAny(x + i, max, y + i, 32);
      continue;
    }
    ExpOfModerate(e);
    Store(y + i, e[0]);
    Store(y + i + 16, e[1]);
  }
  if (i < length) ExpOfAny(x + i, max, y + i, length - i);
}

// x and y are contiguous and may be the same.
static void SoftmaxRow(const float* x, float* y, int64_t length) {
  ExpRow(x, RowMax(x, length), y, length);
  const F32x16 sum = Splat(TreeSum(length, [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    return LoadRow(whole, y + i, count);
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
