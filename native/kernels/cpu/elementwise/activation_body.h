// Activation functions of sixteen elements, contract elementwise.f32 (formulas:
// batch_invariant/cpu/elementwise.h), on top of simd/math.h.
#ifndef BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ACTIVATION_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ACTIVATION_BODY_H_

#include "kernels/cpu/simd/math.h"
#include "kernels/cpu/simd/simd.h"

namespace batch_invariant::cpu::BI_SIMD {

BI_INLINE F32x16 GeluErf(F32x16 x) {
  const F32x16 erf = Erf(Mul(x, Splat(0.70710678118654752f)));
  return Mul(Mul(Splat(0.5f), x), Add(Splat(1.0f), erf));
}

BI_INLINE F32x16 GeluTanh(F32x16 x) {
  const F32x16 slope = Fma(Splat(0.035677408136300125f), Mul(x, x), Splat(0.79788456080286536f));
  return Mul(Mul(Splat(0.5f), x), Add(Splat(1.0f), Tanh(Mul(x, slope))));
}

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ACTIVATION_BODY_H_
