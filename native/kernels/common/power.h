// x^y, contract pow: one definition for the CPU and for CUDA, of additions, multiplications and
// divisions in fp64 that are each rounded to nearest even, and of whole-number operations. No
// compiler may contract them (-ffp-contract=off, --fmad=false), and so every processor gives the
// same bytes.
//
// With |x| = 2^e m, m in [sqrt(1/2), sqrt(2)) and s = (m - 1) / (m + 1):
//   log2 |x| = e + 2 log2(e) (s + s^3/3 + s^5/5 + ...)
//   x^y      = 2^n e^(f ln 2), n = rint(y log2 |x|), f = y log2 |x| - n
// For fp32 results all of it is in fp64 (error below 2^-42, then one rounding); for fp64 results
// the logarithm, the product and f are pairs of fp64 numbers (error below 1 ulp). y = 2 is x*x.
// Signs, zeros, infinities and NaN are those of IEEE 754's pow; a NaN is the positive quiet one.
#ifndef BATCH_INVARIANT_KERNELS_COMMON_POWER_H_
#define BATCH_INVARIANT_KERNELS_COMMON_POWER_H_

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define BATCH_INVARIANT_ANY __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define BATCH_INVARIANT_ANY __forceinline
#else
// Never a function of its own: files for different instruction sets include this one, and the linker
// would keep the code of any of them for all.
#define BATCH_INVARIANT_ANY inline __attribute__((always_inline))
#endif

namespace batch_invariant::power {

BATCH_INVARIANT_ANY std::uint64_t Bits(double x) {
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

BATCH_INVARIANT_ANY double FromBits(std::uint64_t bits) {
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

BATCH_INVARIANT_ANY double Infinity() { return FromBits(0x7ff0000000000000u); }
BATCH_INVARIANT_ANY double QuietNan() { return FromBits(0x7ff8000000000000u); }
BATCH_INVARIANT_ANY double Magnitude(double x) { return FromBits(Bits(x) & 0x7fffffffffffffffu); }
BATCH_INVARIANT_ANY bool IsNegative(double x) { return (Bits(x) >> 63) != 0; }

// 2^n for -1022 <= n <= 1023.
BATCH_INVARIANT_ANY double PowerOfTwo(int n) {
  return FromBits(static_cast<std::uint64_t>(n + 1023) << 52);
}

// To the nearest whole number, ties to even; |x| < 2^51.
BATCH_INVARIANT_ANY double Nearest(double x) {
  constexpr double kRound = 0x1.8p+52;
  const double shifted = x + kRound;
  return shifted - kRound;
}

// |x| = 2^*exponent * the result, which is in [sqrt(1/2), sqrt(2)); x is positive and finite.
BATCH_INVARIANT_ANY double Mantissa(double x, int* exponent) {
  std::uint64_t bits = Bits(x);
  int shift = 0;
  if (bits < 0x0010000000000000u) {  // below the normal range
    bits = Bits(x * 0x1p+54);
    shift = -54;
  }
  constexpr std::uint64_t kRootHalf = 0x3fe6a09e667f3bcdu;
  const auto e = static_cast<int>(static_cast<std::int64_t>(bits - kRootHalf) >> 52);
  *exponent = shift + e;
  return FromBits(bits - (static_cast<std::uint64_t>(static_cast<std::int64_t>(e)) << 52));
}

// result * 2^n, rounded once; result in [1/2, 2], -1150 <= n <= 1030.
BATCH_INVARIANT_ANY double Scaled(double result, int n) {
  const int half = n / 2;
  return result * PowerOfTwo(half) * PowerOfTwo(n - half);
}

// 1/k! for k = 2..15.
BATCH_INVARIANT_ANY double ExponentialTail(double r) {
  double p = 1.0 / 1307674368000.0;
  p = p * r + 1.0 / 87178291200.0;
  p = p * r + 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  return p;
}

constexpr double kLn2High = 0x1.62e42fefa39efp-1;
constexpr double kLn2Low = 0x1.abc9e3b39803fp-56;
constexpr double kLog2EHigh = 0x1.71547652b82fep+0;
constexpr double kLog2ELow = 0x1.777d0ffda0d24p-56;

// log2 of 2^e m to about 2^-42; m in [sqrt(1/2), sqrt(2)].
BATCH_INVARIANT_ANY double ShortLogarithm(double m, int e) {
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double p = 1.0 / 21.0;
  p = p * z + 1.0 / 19.0;
  p = p * z + 1.0 / 17.0;
  p = p * z + 1.0 / 15.0;
  p = p * z + 1.0 / 13.0;
  p = p * z + 1.0 / 11.0;
  p = p * z + 1.0 / 9.0;
  p = p * z + 1.0 / 7.0;
  p = p * z + 1.0 / 5.0;
  p = p * z + 1.0 / 3.0;
  return (2.0 * s + 2.0 * s * z * p) * kLog2EHigh + static_cast<double>(e);
}

// 2^(t - n), n the whole number next to t.
BATCH_INVARIANT_ANY double ShortExponential(double t, double n) {
  const double r = (t - n) * kLn2High;
  return 1.0 + (r + r * r * ExponentialTail(r));
}

// |x|^y to about 2^-42; x positive and finite, y finite.
BATCH_INVARIANT_ANY double ShortPower(double x, double y) {
  int e = 0;
  const double m = Mantissa(x, &e);
  const double t = y * ShortLogarithm(m, e);
  if (t > 1030.0) return Infinity();
  if (t < -1150.0) return 0.0;
  const double n = Nearest(t);
  return Scaled(ShortExponential(t, n), static_cast<int>(n));
}

// A sum of two numbers of which the second is at most half an ulp of the first.
struct Pair {
  double high;
  double low;
};

// a + b exactly.
BATCH_INVARIANT_ANY Pair Sum(double a, double b) {
  const double high = a + b;
  const double b_part = high - a;
  return {high, (a - (high - b_part)) + (b - b_part)};
}

// a * b exactly, for |a|, |b| < 2^970 and a product above 2^-960.
BATCH_INVARIANT_ANY Pair Product(double a, double b) {
  constexpr double kSplit = 0x1.0000002p+27;
  const double a_scaled = a * kSplit;
  const double a_high = a_scaled - (a_scaled - a);
  const double a_low = a - a_high;
  const double b_scaled = b * kSplit;
  const double b_high = b_scaled - (b_scaled - b);
  const double b_low = b - b_high;
  const double high = a * b;
  return {high, ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low};
}

BATCH_INVARIANT_ANY Pair Add(Pair a, Pair b) {
  const Pair sum = Sum(a.high, b.high);
  return Sum(sum.high, sum.low + (a.low + b.low));
}

BATCH_INVARIANT_ANY Pair Multiply(Pair a, Pair b) {
  const Pair product = Product(a.high, b.high);
  return Sum(product.high, product.low + (a.high * b.low + a.low * b.high));
}

// log2 x; x positive and finite.
BATCH_INVARIANT_ANY Pair Logarithm(double x) {
  int e = 0;
  const double m = Mantissa(x, &e);
  // s = a / b, a exact.
  const double a = m - 1.0;
  const Pair b = Sum(m, 1.0);
  const double s_high = a / b.high;
  const Pair back = Product(s_high, b.high);
  const double s_low = (((a - back.high) - back.low) - s_high * b.low) / b.high;
  const Pair s = Sum(s_high, s_low);
  const Pair z = Multiply(s, s);
  double q = 1.0 / 25.0;
  q = q * z.high + 1.0 / 23.0;
  q = q * z.high + 1.0 / 21.0;
  q = q * z.high + 1.0 / 19.0;
  q = q * z.high + 1.0 / 17.0;
  q = q * z.high + 1.0 / 15.0;
  q = q * z.high + 1.0 / 13.0;
  q = q * z.high + 1.0 / 11.0;
  q = q * z.high + 1.0 / 9.0;
  q = q * z.high + 1.0 / 7.0;
  constexpr Pair kFifth = {0x1.999999999999ap-3, -0x1.999999999999ap-57};
  constexpr Pair kThird = {0x1.5555555555555p-2, 0x1.5555555555555p-56};
  const Pair inner = Add(kFifth, Product(q, z.high));
  const Pair tail = Multiply(z, Add(kThird, Multiply(z, inner)));
  const Pair twice = {2.0 * s.high, 2.0 * s.low};
  const Pair natural = Add(twice, Multiply(twice, tail));
  const Pair fraction = Multiply(natural, {kLog2EHigh, kLog2ELow});
  return Add({static_cast<double>(e), 0.0}, fraction);
}

// |x|^y to less than one ulp; x positive and finite, y finite.
BATCH_INVARIANT_ANY double LongPower(double x, double y) {
  const Pair logarithm = Logarithm(x);
  const double estimate = y * logarithm.high;
  if (estimate > 1030.0) return Infinity();
  if (estimate < -1150.0) return 0.0;
  // Too small to be told from 0, and perhaps below what Product takes.
  if (Magnitude(estimate) < 0x1p-70) return 1.0;
  const Pair product = Product(y, logarithm.high);
  const Pair t = Sum(product.high, product.low + y * logarithm.low);
  const double n = Nearest(t.high);
  const Pair f = Sum(t.high - n, t.low);
  const Pair r = Multiply(f, {kLn2High, kLn2Low});
  const Pair one_and_r = Sum(1.0, r.high);
  const double rest = r.high * r.high * ExponentialTail(r.high) + r.low * (1.0 + r.high);
  return Scaled(one_and_r.high + (one_and_r.low + rest), static_cast<int>(n));
}

BATCH_INVARIANT_ANY bool IsWhole(double y) {
  const double magnitude = Magnitude(y);
  if (magnitude >= 0x1p+52) return magnitude < Infinity();
  return static_cast<double>(static_cast<std::int64_t>(magnitude)) == magnitude;
}

BATCH_INVARIANT_ANY bool IsOdd(double y) {
  const double magnitude = Magnitude(y);
  return magnitude < 0x1p+53 && IsWhole(y) && (static_cast<std::int64_t>(magnitude) & 1) != 0;
}

// pow of IEEE 754; kShort: of the precision that a result in fp32 needs.
template <bool kShort>
BATCH_INVARIANT_ANY double Power(double x, double y) {
  if (y == 0.0 || x == 1.0) return 1.0;
  if (x != x || y != y) return QuietNan();
  if (y == 2.0) return x * x;
  const double magnitude = Magnitude(x);
  const bool grows = (magnitude > 1.0) != (y < 0.0);
  const bool negative = IsNegative(x) && IsOdd(y);
  double result = 0.0;
  if (Magnitude(y) == Infinity()) {
    return magnitude == 1.0 ? 1.0 : grows ? Infinity() : 0.0;
  } else if (magnitude == 0.0 || magnitude == Infinity()) {
    result = grows ? Infinity() : 0.0;
  } else if (IsNegative(x) && !IsWhole(y)) {
    return QuietNan();
  } else {
    result = kShort ? ShortPower(magnitude, y) : LongPower(magnitude, y);
  }
  return negative ? -result : result;
}

// Wraps around; for y < 0 the quotient 1 / x^-y towards zero, and 0 for x = 0.
template <typename Whole>
BATCH_INVARIANT_ANY Whole WholePower(Whole x, std::int64_t y) {
  if (y < 0) return x == 1 ? Whole{1} : x == -1 ? ((y & 1) != 0 ? Whole{-1} : Whole{1}) : Whole{0};
  std::uint64_t result = 1;
  auto base = static_cast<std::uint64_t>(static_cast<std::int64_t>(x));
  for (; y > 0; y >>= 1) {
    if ((y & 1) != 0) result *= base;
    base *= base;
  }
  return static_cast<Whole>(static_cast<std::int64_t>(result));
}

// Towards zero, held to the type's range; 0 for NaN.
template <typename Whole>
BATCH_INVARIANT_ANY Whole ToWhole(double x) {
  constexpr Whole kHighest = static_cast<Whole>(~std::uint64_t{0} >> (65 - 8 * sizeof(Whole)));
  constexpr double kLimit = sizeof(Whole) == 8 ? 0x1p+63 : 0x1p+31;
  if (x != x) return 0;
  if (x >= kLimit) return kHighest;
  if (x < -kLimit) return -kHighest - 1;
  return static_cast<Whole>(x);
}

BATCH_INVARIANT_ANY float Pow(float x, double y) {
  return static_cast<float>(Power<true>(static_cast<double>(x), y));
}
BATCH_INVARIANT_ANY double Pow(double x, double y) { return Power<false>(x, y); }

// A whole-number base: exact where the exponent is a whole number too, else by the fp64 result.
template <typename Whole>
BATCH_INVARIANT_ANY Whole WholeBasePow(Whole x, double y) {
  if (IsWhole(y) && Magnitude(y) < 0x1p+63) return WholePower(x, static_cast<std::int64_t>(y));
  return ToWhole<Whole>(Power<false>(static_cast<double>(x), y));
}
BATCH_INVARIANT_ANY std::int32_t Pow(std::int32_t x, double y) { return WholeBasePow(x, y); }
BATCH_INVARIANT_ANY std::int64_t Pow(std::int64_t x, double y) { return WholeBasePow(x, y); }

}  // namespace batch_invariant::power

#endif  // BATCH_INVARIANT_KERNELS_COMMON_POWER_H_
