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

// y = e^(x - max), a short way for 64 elements whose differences are all moderate. Among others
// that have a NaN some may lose their bits; the row's sum is NaN then.
static void ExpRow(const float* x, float max, float* y, int64_t length) {
  // x - max is moderate from here on; where floats are too coarse to tell, no x is.
  constexpr float kFine = 1 << 20;
  const bool fine = max > -kFine && max < kFine;
  const F32x16 least = fine ? Splat(max - 80.0f) : Splat(__builtin_inff());
  int64_t i = 0;
  for (; i + 64 <= length; i += 64) {
    const float* from = x + i;
    const F32x16 smallest =
        Min(Min(Load(from), Load(from + 16)), Min(Load(from + 32), Load(from + 48)));
    if (Any(Less(smallest, least))) {
      ExpOfAny(from, max, y + i, 64);
      continue;
    }
    BI_UNROLL
    for (int j = 0; j < 64; j += 16) {
      Store(y + i + j, ExpOfModerate(Sub(Load(from + j), Splat(max))));
    }
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
