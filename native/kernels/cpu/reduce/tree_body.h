// The tree of 64 partial results that norm.f32, softmax.f32 and reduce.f32 share. Sixteen partials
// are the lanes of one vector: element i goes to vector (i / 16) % 4, lane i % 16, in ascending i.
#ifndef BATCH_INVARIANT_KERNELS_CPU_REDUCE_TREE_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_REDUCE_TREE_BODY_H_

#include "kernels/cpu/simd/simd.h"

namespace batch_invariant::cpu::BI_SIMD {

// Tells a callback at compile time whether its sixteen elements lie wholly inside the row.
template <bool kValue>
struct Whole {
  static constexpr bool value = kValue;
};

template <bool kWhole>
BI_INLINE F32x16 LoadRow(Whole<kWhole>, const float* p, int count) {
  if constexpr (kWhole) {
    return Load(p);
  } else {
    return LoadPartial(p, count);
  }
}
template <bool kWhole>
BI_INLINE void StoreRow(Whole<kWhole>, float* p, F32x16 x, int count) {
  if constexpr (kWhole) {
    Store(p, x);
  } else {
    StorePartial(p, x, count);
  }
}

// Calls visit(whole, i, count) for i = 0, 16, 32, ...
template <typename Visit>
BI_INLINE void ForEach16(int64_t length, Visit visit) {
  const int64_t whole = length / 16 * 16;
  for (int64_t i = 0; i < whole; i += 16) visit(Whole<true>{}, i, 16);
  if (whole < length) visit(Whole<false>{}, whole, static_cast<int>(length - whole));
}

// partial = step(partial, element(whole, i, count)); lanes from `count` on count as `identity`,
// which must leave a partial alone. Returns the four vectors folded to one: 64 partials to 32,
// then 16.
template <typename Element, typename Step, typename Fold>
BI_INLINE F32x16 FoldTree(int64_t length, F32x16 identity, Element element, Step step, Fold fold) {
  F32x16 p0 = identity, p1 = identity, p2 = identity, p3 = identity;
  int64_t i = 0;
  for (; i + 64 <= length; i += 64) {
    p0 = step(p0, element(Whole<true>{}, i, 16));
    p1 = step(p1, element(Whole<true>{}, i + 16, 16));
    p2 = step(p2, element(Whole<true>{}, i + 32, 16));
    p3 = step(p3, element(Whole<true>{}, i + 48, 16));
  }
  const auto end = [&](F32x16& p) BI_INLINE_LAMBDA {
    if (i >= length) return;
    const int count = length - i >= 16 ? 16 : static_cast<int>(length - i);
    p = step(p, Select(FirstLanes(count), element(Whole<false>{}, i, count), identity));
    i += 16;
  };
  end(p0);
  end(p1);
  end(p2);
  end(p3);
  return fold(fold(p0, p2), fold(p1, p3));
}

template <typename Element>
BI_INLINE float TreeSum(int64_t length, Element element) {
  const auto add = [](F32x16 a, F32x16 b) BI_INLINE_LAMBDA { return Add(a, b); };
  return ReduceAdd(FoldTree(length, ZeroF32(), element, add, add));
}

template <typename Element>
BI_INLINE float TreeSumSquare(int64_t length, Element element) {
  return ReduceAdd(FoldTree(
      length, ZeroF32(), element, [](F32x16 p, F32x16 x) BI_INLINE_LAMBDA { return Fma(x, x, p); },
      [](F32x16 a, F32x16 b) BI_INLINE_LAMBDA { return Add(a, b); }));
}

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_REDUCE_TREE_BODY_H_
