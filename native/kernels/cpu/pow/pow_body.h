// fp32 numbers to one power, contract pow: what ShortPower of kernels/common/power.h does,
// operation by operation, for many lanes at a time. What it branches for is done without: fp32
// has no number that is subnormal in fp64, and beyond the bounds of t the scaled result is Inf or 0
// anyway. The loops over fp64 are plain ones that compilers turn into vectors; nothing is
// contracted.
#ifndef BATCH_INVARIANT_KERNELS_CPU_POW_POW_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_POW_POW_BODY_H_

#include "kernels/common/power.h"
#include "kernels/cpu/pow/pow_kernels.h"
#include "kernels/cpu/simd/simd.h"

namespace batch_invariant::cpu::BI_SIMD {

inline constexpr int kPowLanes = 64;

// x, held to -1150..1150; by whole numbers, which compilers turn into vectors where a comparison of
// fp64 would be a branch.
BI_INLINE double Bounded(double x) {
  constexpr int64_t kSign = INT64_MIN, kMost = 0x4091f80000000000;
  int64_t bits;
  memcpy(&bits, &x, sizeof x);
  const int64_t magnitude = bits & ~kSign;
  const int64_t bounded = (magnitude < kMost ? magnitude : kMost) | (bits & kSign);
  memcpy(&x, &bounded, sizeof x);
  return x;
}

// result = (mantissa 2^exponent)^y. Stage by stage, so that none waits for a single chain.
static void ShortPowers(const float* mantissas, const int32_t* exponents, double y, int lanes,
                        float* result) {
  double t[kPowLanes];
  for (int i = 0; i < lanes; ++i) {
    t[i] = y * power::ShortLogarithm(static_cast<double>(mantissas[i]), exponents[i]);
  }
  double scale[kPowLanes];
  int32_t whole[kPowLanes];
  for (int i = 0; i < lanes; ++i) {
    const double bounded = Bounded(t[i]);
    const double n = power::Nearest(bounded);
    scale[i] = power::ShortExponential(bounded, n);
    whole[i] = static_cast<int32_t>(n);
  }
  for (int i = 0; i < lanes; ++i) {
    result[i] = static_cast<float>(power::Scaled(scale[i], whole[i]));
  }
}

static int64_t ToOnePower(const float* base, double exponent, bool is_whole, bool is_odd, float* y,
                          int64_t length) {
  const I32x16 largest_subnormal = Splat(int32_t{0x007fffff});
  const I32x16 infinity = Splat(int32_t{0x7f800000});
  const I32x16 root_half = Splat(int32_t{0x3f3504f4});  // sqrt(1/2), rounded up
  for (int64_t i = 0; i + 16 <= length;) {
    float mantissas[kPowLanes], result[kPowLanes];
    int32_t exponents[kPowLanes];
    int lanes = 0;
    for (; lanes < kPowLanes && i + lanes + 16 <= length; lanes += 16) {
      const F32x16 x = Load(base + i + lanes);
      const I32x16 magnitude = BitsOf(Abs(x));
      const Mask16 taken = And(Greater(magnitude, largest_subnormal), Greater(infinity, magnitude));
      if (!All(taken) || (!is_whole && Any(IsNegative(x)))) break;
      const I32x16 e = ShiftRightSigned<23>(Sub(magnitude, root_half));
      Store(mantissas + lanes, FromBits(Sub(magnitude, ShiftLeft<23>(e))));
      Store(exponents + lanes, e);
    }
    if (lanes == 0) return i;
    ShortPowers(mantissas, exponents, exponent, lanes, result);
    for (int lane = 0; lane < lanes; lane += 16, i += 16) {
      const F32x16 positive = Load(result + lane);
      Store(y + i, is_odd ? CopySign(positive, Load(base + i)) : positive);
    }
  }
  return length / 16 * 16;
}

extern const PowKernels kPowKernels;
const PowKernels kPowKernels = {kInstructionSet, ToOnePower};

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_POW_POW_BODY_H_
