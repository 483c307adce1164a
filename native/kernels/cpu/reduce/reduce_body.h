// Rows of a reduction, contract reduce.f32: the tree of tree_body.h; maximum and minimum keep one
// of the row's elements. Free: how rows are spread over threads.
#ifndef BATCH_INVARIANT_KERNELS_CPU_REDUCE_REDUCE_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_REDUCE_REDUCE_BODY_H_

#include "kernels/cpu/reduce/reduce_kernels.h"
#include "kernels/cpu/reduce/tree_body.h"

namespace batch_invariant::cpu::BI_SIMD {

// +Inf as bits, so that no standard header is needed.
BI_INLINE F32x16 SplatInfinity() { return FromBits(Splat(int32_t{0x7f800000})); }

template <bool kMaximum>
BI_INLINE float ReduceExtreme(const float* x, int64_t length) {
  // x > p ? x : p keeps the earlier of equal elements; NaN is looked for separately.
  const auto better = [](F32x16 p, F32x16 v) BI_INLINE_LAMBDA { return kMaximum ? Max(v, p) : Min(v, p); };
  const F32x16 identity = kMaximum ? Negate(SplatInfinity()) : SplatInfinity();
  F32x16 nans = ZeroF32();
  const F32x16 sixteen = FoldTree(
      length, identity,
      [&](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
        const F32x16 value = LoadRow(whole, x + i, count);
        nans = Select(IsNan(value), value, nans);
        return value;
      },
      better, better);
  float lanes[16], nan_lanes[16];
  Store(lanes, sixteen);
  Store(nan_lanes, nans);
  for (int i = 0; i < 16; ++i) {
    if (nan_lanes[i] != nan_lanes[i]) return nan_lanes[i];
  }
  for (int half = 8; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) {
      const bool take = kMaximum ? lanes[j + half] > lanes[j] : lanes[j + half] < lanes[j];
      if (take) lanes[j] = lanes[j + half];
    }
  }
  return lanes[0];
}

BI_INLINE F32x16 ReduceRow(ReduceOp op, const float* x, int64_t length) {
  const auto element = [=](auto whole, int64_t i, int count) BI_INLINE_LAMBDA {
    return LoadRow(whole, x + i, count);
  };
  switch (op) {
    case ReduceOp::kSum:
      return Splat(TreeSum(length, element));
    case ReduceOp::kMean:
      return Div(Splat(TreeSum(length, element)), Splat(static_cast<float>(length)));
    case ReduceOp::kMax:
      return Splat(ReduceExtreme<true>(x, length));
    case ReduceOp::kMin:
      return Splat(ReduceExtreme<false>(x, length));
    case ReduceOp::kL2:
      return Sqrt(Splat(TreeSumSquare(length, element)));
    case ReduceOp::kSumSquare:
      return Splat(TreeSumSquare(length, element));
  }
  return ZeroF32();
}

static void ReduceRows(const ReduceArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const F32x16 y = ReduceRow(args.op, args.x + row * args.length, args.length);
    StorePartial(args.y + row, Canonical(y), 1);
  }
}

extern const ReduceKernels kReduceKernels;
const ReduceKernels kReduceKernels = {kInstructionSet, ReduceRows};

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_REDUCE_REDUCE_BODY_H_
