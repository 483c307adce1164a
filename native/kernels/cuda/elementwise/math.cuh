// Elementary functions as fixed sequences of fp32 operations, each rounded once: the same bytes in
// every kernel. The polynomials are minimax fits made for this library; the bound beside each is of
// the polynomial alone, in exact arithmetic and relative to the function.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_MATH_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_MATH_CUH_

#include <cstdint>

namespace batch_invariant::cuda {

constexpr float kLog2E = 0x1.715476p+0f;
// ln 2 in two parts; n times the first is exact for |n| < 2^11.
constexpr float kLn2High = 0x1.62e400p-1f;
constexpr float kLn2Low = 0x1.7f7d1cp-20f;

// 2^x for -126 < x < 127 (not checked), polynomial 9.2e-8. NaN gives NaN or a huge value.
__device__ __forceinline__ float Exp2Reduced(float x) {
  constexpr float kRound = 0x1.8p+23f;  // adding it leaves rint(x) in the low bits
  const float shifted = __fadd_rn(x, kRound);
  const float f = __fsub_rn(x, __fsub_rn(shifted, kRound));
  float p = 0x1.5bba34p-10f;
  p = __fmaf_rn(p, f, 0x1.3cea98p-7f);
  p = __fmaf_rn(p, f, 0x1.c6b754p-5f);
  p = __fmaf_rn(p, f, 0x1.ebf9bcp-3f);
  p = __fmaf_rn(p, f, 0x1.62e42ap-1f);
  p = __fmaf_rn(p, f, 1.0f);
  return __int_as_float(__float_as_int(p) + (__float_as_int(shifted) << 23));
}

// e^x = 2^n e^r, n = rint(x log2 e), e^r = 1 + (r + r^2 P(r)), polynomial 3.1e-9.
__device__ __forceinline__ float Exp(float x) {
  if (x != x) return x;
  if (x > 88.72284f) return __builtin_huge_valf();
  if (x < -103.97208f) return 0.0f;
  const float n = rintf(__fmul_rn(x, kLog2E));
  float r = __fmaf_rn(n, -kLn2High, x);
  r = __fmaf_rn(n, -kLn2Low, r);
  float p = 0x1.6a2352p-10f;
  p = __fmaf_rn(p, r, 0x1.123a70p-7f);
  p = __fmaf_rn(p, r, 0x1.5558f4p-5f);
  p = __fmaf_rn(p, r, 0x1.555490p-3f);
  p = __fmaf_rn(p, r, 0x1.fffffcp-2f);
  p = __fmaf_rn(__fmul_rn(r, r), p, r);
  p = __fadd_rn(p, 1.0f);
  // Two factors: a result below the normal range is rounded once, by the last product.
  const int k = static_cast<int>(n);
  const int half = k / 2;
  p = __fmul_rn(p, __int_as_float((half + 127) << 23));
  return __fmul_rn(p, __int_as_float((k - half + 127) << 23));
}

// ln x, x = 2^e m with m in [sqrt(1/2), sqrt(2)): e ln 2 + f + f^2 P(f), f = m - 1;
// polynomial 4.1e-9.
__device__ __forceinline__ float Log(float x) {
  if (x != x || x < 0.0f) return __int_as_float(0x7fffffff);
  if (x == 0.0f) return -__builtin_huge_valf();
  if (x == __builtin_huge_valf()) return x;
  int e = 0;
  if (x < 0x1p-126f) {
    x = __fmul_rn(x, 0x1p+24f);
    e = -24;
  }
  const int bits = __float_as_int(x);
  const int shift = (bits - 0x3f3504f3) >> 23;  // 0x3f3504f3: sqrt(1/2)
  e += shift;
  const float f = __fsub_rn(__int_as_float(bits - (shift << 23)), 1.0f);
  float p = -0x1.383e68p-4f;
  p = __fmaf_rn(p, f, 0x1.084e9cp-3f);
  p = __fmaf_rn(p, f, -0x1.0f3780p-3f);
  p = __fmaf_rn(p, f, 0x1.227088p-3f);
  p = __fmaf_rn(p, f, -0x1.542744p-3f);
  p = __fmaf_rn(p, f, 0x1.99a402p-3f);
  p = __fmaf_rn(p, f, -0x1.000428p-2f);
  p = __fmaf_rn(p, f, 0x1.555550p-2f);
  p = __fmaf_rn(p, f, -0x1.fffff8p-2f);
  const float n = static_cast<float>(e);
  const float low = __fmaf_rn(n, kLn2Low, __fmul_rn(__fmul_rn(f, f), p));
  return __fmaf_rn(n, kLn2High, __fadd_rn(f, low));
}

// tanh: x + x^3 P(x^2) for |x| < 0.625 (polynomial 4.4e-9), else 1 - 2 / (e^(2|x|) + 1), x's sign.
__device__ __forceinline__ float Tanh(float x) {
  const float a = fabsf(x);
  if (a < 0.625f) {
    const float s = __fmul_rn(x, x);
    float p = -0x1.75e11ep-8f;
    p = __fmaf_rn(p, s, 0x1.522676p-6f);
    p = __fmaf_rn(p, s, -0x1.b83c54p-5f);
    p = __fmaf_rn(p, s, 0x1.110726p-3f);
    p = __fmaf_rn(p, s, -0x1.555532p-2f);
    return __fmaf_rn(__fmul_rn(p, s), x, x);
  }
  const float e = Exp(__fadd_rn(a, a));
  return copysignf(__fsub_rn(1.0f, __fdiv_rn(2.0f, __fadd_rn(e, 1.0f))), x);
}

// erf: x P(x^2) for |x| < 1 (polynomial 1.2e-9); 1 - e^-Q(|x| - 2) up to 4, Q a fit of -ln erfc
// (1.0e-9 absolute); then 1; x's sign.
__device__ __forceinline__ float Erf(float x) {
  const float a = fabsf(x);
  if (a < 1.0f) {
    const float s = __fmul_rn(x, x);
    float p = 0x1.4969acp-14f;
    p = __fmaf_rn(p, s, -0x1.a3f6dcp-11f);
    p = __fmaf_rn(p, s, 0x1.5405b0p-8f);
    p = __fmaf_rn(p, s, -0x1.b7f90ep-6f);
    p = __fmaf_rn(p, s, 0x1.ce2cf8p-4f);
    p = __fmaf_rn(p, s, -0x1.81273ep-2f);
    p = __fmaf_rn(p, s, 0x1.20dd74p+0f);
    return __fmul_rn(x, p);
  }
  if (!(a < 4.0f)) return x != x ? x : copysignf(1.0f, x);
  const float t = __fsub_rn(a, 2.0f);
  float q = -0x1.852f72p-13f;
  q = __fmaf_rn(q, t, 0x1.75aa72p-11f);
  q = __fmaf_rn(q, t, -0x1.d07a80p-9f);
  q = __fmaf_rn(q, t, 0x1.0e20a4p-6f);
  q = __fmaf_rn(q, t, 0x1.d8f62ap-1f);
  q = __fmaf_rn(q, t, 0x1.1ac320p+2f);
  q = __fmaf_rn(q, t, 0x1.575b32p+2f);
  return copysignf(__fsub_rn(1.0f, Exp(-q)), x);
}

// e^x for x <= 0, as Exp but for results below 1.2e-38, which are 0; NaN gives NaN.
__device__ __forceinline__ float ExpNotPositive(float x) {
  constexpr float kRound = 0x1.8p+23f;
  constexpr float kLowest = -87.33654f;  // e^this is the least normal number
  const float clamped = x < kLowest ? kLowest : x;
  const float shifted = __fadd_rn(__fmul_rn(clamped, kLog2E), kRound);
  const float n = __fsub_rn(shifted, kRound);
  float r = __fmaf_rn(n, -kLn2High, clamped);
  r = __fmaf_rn(n, -kLn2Low, r);
  float p = 0x1.6a2352p-10f;
  p = __fmaf_rn(p, r, 0x1.123a70p-7f);
  p = __fmaf_rn(p, r, 0x1.5558f4p-5f);
  p = __fmaf_rn(p, r, 0x1.555490p-3f);
  p = __fmaf_rn(p, r, 0x1.fffffcp-2f);
  p = __fmaf_rn(__fmul_rn(r, r), p, r);
  p = __fadd_rn(p, 1.0f);
  const float power = __int_as_float((__float_as_int(shifted) + 127) << 23);
  p = __fmul_rn(p, power);
  return x < kLowest ? 0.0f : p;
}

// 1 / (1 + e^-x), from e = e^-|x|: d = 1 + e, r the device's approximate reciprocal of d and one
// Newton step, then r or e r.
__device__ __forceinline__ float Sigmoid(float x) {
  const float e = ExpNotPositive(-fabsf(x));
  const float d = __fadd_rn(1.0f, e);
  float r;
  asm("rcp.approx.f32 %0, %1;\n" : "=f"(r) : "f"(d));
  r = __fmaf_rn(__fmaf_rn(-d, r, 1.0f), r, r);
  return x < 0.0f ? __fmul_rn(e, r) : r;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ELEMENTWISE_MATH_CUH_
