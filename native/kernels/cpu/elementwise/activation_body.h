// Activation functions of sixteen elements, contract elementwise.f32 (formulas:
// batch_invariant/cpu/elementwise.h), on top of simd/math.h.
#ifndef BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ACTIVATION_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ACTIVATION_BODY_H_

#include "kernels/cpu/simd/math.h"
#include "kernels/cpu/simd/simd.h"

namespace batch_invariant::cpu::BI_SIMD {

// Gelu is x / 2 * (1 + f(argument)), f the error function or the hyperbolic tangent.
BI_INLINE F32x16 GeluErfArgument(F32x16 x) { return Mul(x, Splat(0.70710678118654752f)); }
BI_INLINE F32x16 GeluTanhArgument(F32x16 x) {
  return Mul(x, Fma(Splat(0.035677408136300125f), Mul(x, x), Splat(0.79788456080286536f)));
}
BI_INLINE F32x16 GeluFrom(F32x16 x, F32x16 value) {
  return Mul(Mul(Splat(0.5f), x), Add(Splat(1.0f), value));
}

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_ELEMENTWISE_ACTIVATION_BODY_H_
