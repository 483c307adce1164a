// Natural logarithm of a float, one definition for every instruction set: plain double arithmetic
// (addition, multiplication, division; no fma), rounded once to float.
#ifndef BATCH_INVARIANT_KERNELS_REFERENCE_LOG_H_
#define BATCH_INVARIANT_KERNELS_REFERENCE_LOG_H_

#include <bit>
#include <cstdint>
#include <limits>

namespace batch_invariant::reference {

// x = 2^e * m with m in [sqrt(1/2), sqrt(2)); t = (m - 1) / (m + 1);
// log x = e * ln 2 + 2t * (1 + t^2/3 + t^4/5 + ... + t^18/19), which is exact to 1e-15.
// NaN for NaN and negative x, -Inf for 0, +Inf for +Inf.
inline float Log(float x) {
  if (!(x >= 0.0f)) return std::numeric_limits<float>::quiet_NaN();
  if (x == 0.0f) return -std::numeric_limits<float>::infinity();
  if (x == std::numeric_limits<float>::infinity()) return x;
  constexpr uint64_t kSqrtHalf = 0x3FE6A09E667F3BCDu;
  const uint64_t bits = std::bit_cast<uint64_t>(static_cast<double>(x)) - kSqrtHalf;
  const auto exponent = static_cast<double>(static_cast<int64_t>(bits) >> 52);
  const double m = std::bit_cast<double>((bits & ((uint64_t{1} << 52) - 1)) + kSqrtHalf);
  const double t = (m - 1.0) / (m + 1.0);
  const double square = t * t;
  double series = 1.0 / 19.0;
  for (int denominator = 17; denominator >= 1; denominator -= 2) {
    series = series * square + 1.0 / denominator;
  }
  return static_cast<float>(exponent * 0.6931471805599453 + 2.0 * t * series);
}

}  // namespace batch_invariant::reference

#endif  // BATCH_INVARIANT_KERNELS_REFERENCE_LOG_H_
