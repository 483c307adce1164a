// Elementary functions over sixteen lanes: one fixed sequence of operations, so the same bits on
// every instruction set, in every lane. Include after a SIMD header. See simd.h.
//
// The polynomials are minimax fits to the functions named, computed for this library; the largest
// errors measured over all floats of the range are in tests/native/cpu/simd. Results that are NaN
// are not canonical: store them through Canonical().
#ifndef BATCH_INVARIANT_KERNELS_CPU_SIMD_MATH_H_
#define BATCH_INVARIANT_KERNELS_CPU_SIMD_MATH_H_

namespace batch_invariant::cpu::BI_SIMD {

// y = c[0] + x * (c[1] + x * (...)), by fused multiply-adds. Several vectors step by step, because
// one alone is a chain that leaves the processor waiting. x and y may be the same.
template <int kVectors, int kTerms>
BI_INLINE void PolynomialsOf(const F32x16 (&x)[kVectors], const float (&c)[kTerms],
                             F32x16 (&y)[kVectors]) {
  F32x16 sum[kVectors];
  BI_UNROLL
  for (int v = 0; v < kVectors; ++v) sum[v] = Splat(c[kTerms - 1]);
  BI_UNROLL
  for (int i = kTerms - 2; i >= 0; --i) {
    BI_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[v] = Fma(sum[v], x[v], Splat(c[i]));
  }
  BI_UNROLL
  for (int v = 0; v < kVectors; ++v) y[v] = sum[v];
}
// Two polynomials of as many vectors, side by side.
template <int kVectors, int kTermsA, int kTermsB>
BI_INLINE void PolynomialsOf(const F32x16 (&a)[kVectors], const float (&ca)[kTermsA],
                             F32x16 (&ya)[kVectors], const F32x16 (&b)[kVectors],
                             const float (&cb)[kTermsB], F32x16 (&yb)[kVectors]) {
  F32x16 sum_a[kVectors], sum_b[kVectors];
  BI_UNROLL
  for (int i = (kTermsA > kTermsB ? kTermsA : kTermsB) - 1; i >= 0; --i) {
    BI_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      if (i < kTermsA) {
        const F32x16 c = Splat(ca[i]);
        sum_a[v] = i == kTermsA - 1 ? c : Fma(sum_a[v], a[v], c);
      }
      if (i < kTermsB) {
        const F32x16 c = Splat(cb[i]);
        sum_b[v] = i == kTermsB - 1 ? c : Fma(sum_b[v], b[v], c);
      }
    }
  }
  BI_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    ya[v] = sum_a[v];
    yb[v] = sum_b[v];
  }
}
template <int kTerms>
BI_INLINE F32x16 Polynomial(F32x16 x, const float (&c)[kTerms]) {
  F32x16 one[1] = {x};
  PolynomialsOf(one, c, one);
  return one[0];
}

// x * 2^n for an integral n of -252..254, in two factors so that a subnormal result is rounded
// once.
BI_INLINE F32x16 ScaleByPowerOfTwo(F32x16 x, F32x16 n) {
  const I32x16 whole = ToI32(n);
  const I32x16 half = ShiftRightSigned<1>(whole);
  const I32x16 bias = Splat(int32_t{127});
  const F32x16 first = FromBits(ShiftLeft<23>(Add(half, bias)));
  const F32x16 second = FromBits(ShiftLeft<23>(Add(Sub(whole, half), bias)));
  return Mul(Mul(x, first), second);
}

inline constexpr float kLog2E = 0x1.715476p+0f;

// e^x / 2^n for an integral n near x / ln2: x = n ln2 + r, e^r = 1 + r + r^2 q(r).
inline constexpr float kExpTerms[] = {0x1.fffffcp-2f, 0x1.55549p-3f, 0x1.5558f4p-5f,
                                      0x1.123a6cp-7f, 0x1.6a2352p-10f};
BI_INLINE F32x16 ReduceByLn2(F32x16 x, F32x16 n) {
  return Fma(n, Splat(-0x1.7f7d1cp-20f), Fma(n, Splat(-0x1.62e4p-1f), x));  // low and high part
}
BI_INLINE F32x16 ExpOfRemainder(F32x16 x, F32x16 n) {
  const F32x16 r = ReduceByLn2(x, n);
  return Fma(Fma(Polynomial(r, kExpTerms), r, Splat(1.0f)), r, Splat(1.0f));
}

// e^x. Subnormal results are kept; below -103.98 the result is +0, above 88.73 it is +Inf; NaN
// stays NaN.
BI_INLINE F32x16 Exp(F32x16 x) {
  // Min and Max return their second operand for NaN.
  x = Max(Splat(-104.0f), Min(Splat(89.0f), x));
  const F32x16 n = RoundNearestEven(Mul(x, Splat(kLog2E)));
  return ScaleByPowerOfTwo(ExpOfRemainder(x, n), n);
}

// Exp(x) for -87 <= x <= 88, bit for bit: n is rounded by adding 1.5 * 2^23, which leaves it in the
// low bits too, and the exponent takes it without rounding.
inline constexpr float kLeastModerate = -87.0f, kMostModerate = 88.0f;
template <int kVectors>
BI_INLINE void ExpOfModerate(F32x16 (&x)[kVectors]) {
  const F32x16 magic = Splat(0x1.8p+23f), one = Splat(1.0f);
  F32x16 shifted[kVectors], sum[kVectors];
  BI_UNROLL
  for (int v = 0; v < kVectors; ++v) shifted[v] = Add(Mul(x[v], Splat(kLog2E)), magic);
  BI_UNROLL
  for (int v = 0; v < kVectors; ++v) x[v] = ReduceByLn2(x[v], Sub(shifted[v], magic));
  PolynomialsOf(x, kExpTerms, sum);
  BI_UNROLL
  for (int v = 0; v < kVectors; ++v) sum[v] = Fma(Fma(sum[v], x[v], one), x[v], one);
  BI_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    x[v] = FromBits(Add(BitsOf(sum[v]), ShiftLeft<23>(BitsOf(shifted[v]))));
  }
}
BI_INLINE F32x16 ExpOfModerate(F32x16 x) {
  F32x16 one[1] = {x};
  ExpOfModerate(one);
  return one[0];
}

// Exp(x) for x <= 0 or NaN, bit for bit.
BI_INLINE F32x16 ExpOfNonPositive(F32x16 x) {
  return All(LessEqual(Splat(kLeastModerate), x)) ? ExpOfModerate(x) : Exp(x);
}

// 2^x: x = n + r, |r| <= 1/2; 2^r = 1 + r q(r). Subnormal results are kept; NaN stays NaN.
BI_INLINE F32x16 Exp2(F32x16 x) {
  static constexpr float kQ[] = {0x1.62e43p-1f, 0x1.ebfbdcp-3f, 0x1.c6aee6p-5f,
                                 0x1.3b2d5p-7f, 0x1.5f3f3p-10f, 0x1.41fb2ep-13f};
  x = Max(Splat(-151.0f), Min(Splat(129.0f), x));
  const F32x16 n = RoundNearestEven(x);
  const F32x16 r = Sub(x, n);  // exact
  return ScaleByPowerOfTwo(Fma(Polynomial(r, kQ), r, Splat(1.0f)), n);
}

// The functions below come in two forms: Of(x) for any x, and OfModerate(x, x, ...), the same bits
// for vectors in which all are moderate, which go side by side, kSideBySide of them at best. What
// is moderate is no NaN, and neither is the function of it.

// 1 / (1 + e^-x) by z = e^-|x|, so that neither tail loses its relative accuracy.
struct SigmoidFunction {
  static constexpr int kSideBySide = 4;
  static BI_INLINE F32x16 From(F32x16 z, F32x16 x) {
    return Div(Select(IsNegative(x), z, Splat(1.0f)), Add(z, Splat(1.0f)));
  }
  static BI_INLINE F32x16 Of(F32x16 x) { return From(ExpOfNonPositive(NegativeAbs(x)), x); }
  static BI_INLINE Mask16 IsModerate(F32x16 x) {
    return LessEqual(Splat(kLeastModerate), NegativeAbs(x));
  }
  template <int kVectors>
  static BI_INLINE void OfModerate(F32x16 (&x)[kVectors]) {
    F32x16 z[kVectors];
    BI_UNROLL
    for (int v = 0; v < kVectors; ++v) z[v] = NegativeAbs(x[v]);
    ExpOfModerate(z);
    BI_UNROLL
    for (int v = 0; v < kVectors; ++v) x[v] = From(z[v], x[v]);
  }
};
BI_INLINE F32x16 Sigmoid(F32x16 x) { return SigmoidFunction::Of(x); }

struct ExpFunction {
  static constexpr int kSideBySide = 2;
  static BI_INLINE F32x16 Of(F32x16 x) { return Exp(x); }
  static BI_INLINE Mask16 IsModerate(F32x16 x) {
    return And(LessEqual(Splat(kLeastModerate), x), LessEqual(x, Splat(kMostModerate)));
  }
  template <int kVectors>
  static BI_INLINE void OfModerate(F32x16 (&x)[kVectors]) {
    ExpOfModerate(x);
  }
};

// Finite ones are moderate: a product with an infinite one could be NaN.
BI_INLINE Mask16 IsFinite(F32x16 x) {
  return LessEqual(FromBits(Splat(static_cast<int32_t>(0xff7fffffu))), NegativeAbs(x));
}

// x p(x^2) / q(x^2), a minimax quotient up to 9 that passes 1 there and is held to 1. -0 stays -0.
struct TanhFunction {
  static constexpr int kSideBySide = 2;
  static constexpr float kP[] = {1.0f, 0x1.12051p-3f, 0x1.c9fe22p-9f, 0x1.596014p-16f,
                                 0x1.c9bd78p-27f};
  static constexpr float kQ[] = {1.0f, 0x1.de57dp-2f, 0x1.a7e202p-6f, 0x1.584906p-12f,
                                 0x1.a0ca06p-21f};
  static BI_INLINE Mask16 IsModerate(F32x16 x) { return IsFinite(x); }
  template <int kVectors>
  static BI_INLINE void OfModerate(F32x16 (&x)[kVectors]) {
    F32x16 p[kVectors], q[kVectors];
    BI_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      x[v] = Max(Splat(-9.2f), Min(Splat(9.2f), x[v]));  // the second operand for NaN
      q[v] = Mul(x[v], x[v]);
    }
    PolynomialsOf(q, kP, p, q, kQ, q);
    BI_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      x[v] = Max(Splat(-1.0f), Min(Splat(1.0f), Div(Mul(x[v], p[v]), q[v])));
    }
  }
  static BI_INLINE F32x16 Of(F32x16 x) {
    F32x16 one[1] = {x};
    OfModerate(one);
    return one[0];
  }
};
BI_INLINE F32x16 Tanh(F32x16 x) { return TanhFunction::Of(x); }

// |x| < 0.92: x + x q(x^2); otherwise 1 - e^-p(|x|) with the sign of x.
struct ErfFunction {
  static constexpr int kSideBySide = 2;
  static constexpr float kQ[] = {0x1.06eba8p-3f, -0x1.812744p-2f,  0x1.ce2e1cp-4f, -0x1.b80ff2p-6f,
                                 0x1.54d42ap-8f, -0x1.aaa2d8p-11f, 0x1.5e0632p-14f};
  static constexpr float kP[] = {-0x1.62d8b2p-13f, 0x1.212626p+0f, 0x1.444d1ep-1f,
                                 0x1.bb4548p-4f,   -0x1.9aebbp-6f, 0x1.10625p-8f,
                                 -0x1.c45914p-12f, 0x1.5d71dep-16f};
  // From 3.95 on the result is 1; Min returns its second operand for NaN. p is -0.0002 at least and
  // 17 at most.
  static BI_INLINE F32x16 Bounded(F32x16 x) { return Min(Splat(4.0f), Abs(x)); }
  static BI_INLINE F32x16 Join(F32x16 x, F32x16 q, F32x16 e) {
    const F32x16 large = CopySign(Sub(Splat(1.0f), e), x);
    return Select(Less(Abs(x), Splat(0.92f)), Fma(q, x, x), large);
  }
  static BI_INLINE Mask16 IsModerate(F32x16 x) { return IsFinite(x); }
  template <int kVectors>
  static BI_INLINE void OfModerate(F32x16 (&x)[kVectors]) {
    F32x16 q[kVectors], p[kVectors];
    BI_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      q[v] = Mul(x[v], x[v]);
      p[v] = Bounded(x[v]);
    }
    PolynomialsOf(q, kQ, q, p, kP, p);
    BI_UNROLL
    for (int v = 0; v < kVectors; ++v) p[v] = Negate(p[v]);
    ExpOfModerate(p);
    BI_UNROLL
    for (int v = 0; v < kVectors; ++v) x[v] = Join(x[v], q[v], p[v]);
  }
  static BI_INLINE F32x16 Of(F32x16 x) {
    const F32x16 p = Polynomial(Bounded(x), kP);
    return Join(x, Polynomial(Mul(x, x), kQ), ExpOfNonPositive(Negate(p)));
  }
};
BI_INLINE F32x16 Erf(F32x16 x) { return ErfFunction::Of(x); }

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_SIMD_MATH_H_
