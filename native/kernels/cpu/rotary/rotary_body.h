// Rotary embedding of one head, contract elementwise.f32: u' = fma(u, cos, -(v * sin)),
// v' = fma(v, cos, u * sin). Pairs are (x[i], x[i + half]), or (x[2i], x[2i + 1]) when interleaved.
// Free: everything but those two lines.
#ifndef BATCH_INVARIANT_KERNELS_CPU_ROTARY_ROTARY_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_ROTARY_ROTARY_BODY_H_

#include "kernels/cpu/reduce/tree_body.h"
#include "kernels/cpu/rotary/rotary_kernels.h"

namespace batch_invariant::cpu::BI_SIMD {

BI_INLINE void RotatePairs(F32x16 cosine, F32x16 sine, F32x16& u, F32x16& v) {
  const F32x16 rotated = Fma(u, cosine, Negate(Mul(v, sine)));
  v = Canonical(Fma(v, cosine, Mul(u, sine)));
  u = Canonical(rotated);
}

// x and y have head_size elements and may be the same; the caches have rotary_dim / 2.
static void RotateHead(const float* x, const float* cosine, const float* sine, int64_t head_size,
                       int64_t rotary_dim, bool interleaved, float* y) {
  const int64_t half = rotary_dim / 2;
  if (interleaved) {
    ForEach16(half, [=](auto whole, int64_t i, int count) {
      float first[16] = {}, second[16] = {};
      for (int j = 0; j < count; ++j) {
        first[j] = x[2 * (i + j)];
        second[j] = x[2 * (i + j) + 1];
      }
      F32x16 u = Load(first), v = Load(second);
      RotatePairs(LoadRow(whole, cosine + i, count), LoadRow(whole, sine + i, count), u, v);
      Store(first, u);
      Store(second, v);
      for (int j = 0; j < count; ++j) {
        y[2 * (i + j)] = first[j];
        y[2 * (i + j) + 1] = second[j];
      }
    });
  } else {
    ForEach16(half, [=](auto whole, int64_t i, int count) {
      F32x16 u = LoadRow(whole, x + i, count), v = LoadRow(whole, x + half + i, count);
      RotatePairs(LoadRow(whole, cosine + i, count), LoadRow(whole, sine + i, count), u, v);
      StoreRow(whole, y + i, u, count);
      StoreRow(whole, y + half + i, v, count);
    });
  }
  for (int64_t i = rotary_dim; i < head_size; ++i) y[i] = x[i];
}

extern const RotaryKernels kRotaryKernels;
const RotaryKernels kRotaryKernels = {kInstructionSet, RotateHead};

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_ROTARY_ROTARY_BODY_H_
