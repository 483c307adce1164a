// Natural logarithm of one float in plain double arithmetic, the definition of
// kernels/reference/log.h: x = 2^e * m, log x = e ln 2 + 2 artanh((m - 1) / (m + 1)).
#ifndef BATCH_INVARIANT_KERNELS_CPU_SOFTMAX_LOG_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_SOFTMAX_LOG_BODY_H_

#include <string.h>

#include "kernels/cpu/simd/simd.h"

namespace batch_invariant::cpu::BI_SIMD {

// For finite x >= 1; NaN stays NaN, +Inf stays +Inf.
BI_INLINE float LogOfSum(float x) {
  if (!(x < 3.4028234e38f)) return x;
  const uint64_t sqrt_half = 0x3FE6A09E667F3BCDu;
  const uint64_t mantissa = (uint64_t{1} << 52) - 1;
  const double wide = x;
  uint64_t bits;
  memcpy(&bits, &wide, sizeof(bits));
  bits -= sqrt_half;
  const double exponent = static_cast<double>(static_cast<int64_t>(bits) >> 52);
  bits = (bits & mantissa) + sqrt_half;
  double m;
  memcpy(&m, &bits, sizeof(m));
  const double t = (m - 1.0) / (m + 1.0);
  const double square = t * t;
  double series = 1.0 / 19.0;
  for (int denominator = 17; denominator >= 1; denominator -= 2) {
    series = series * square + 1.0 / denominator;
  }
  return static_cast<float>(exponent * 0.6931471805599453 + 2.0 * t * series);
}

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_SOFTMAX_LOG_BODY_H_
