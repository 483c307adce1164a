// The definition of reduce.f32 in plain loops.
#ifndef BATCH_INVARIANT_KERNELS_REFERENCE_REDUCE_H_
#define BATCH_INVARIANT_KERNELS_REFERENCE_REDUCE_H_

#include <cmath>
#include <cstdint>
#include <limits>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/reduce.h"
#include "kernels/reference/norm.h"

namespace batch_invariant::reference {

// Maximum (sign = 1) or minimum (sign = -1), NaN when there is one. Elements go to 64 partials like
// those of a sum, so that which of +0 and -0 wins is fixed: the earlier one within a partial, the
// lower partial when they are folded.
inline float Extreme(const float* x, int64_t length, bool maximum) {
  const float worst =
      maximum ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::infinity();
  const auto better = [maximum](float a, float b) { return maximum ? a > b : a < b; };
  float p[contract::kReductionPartials];
  for (float& partial : p) partial = worst;
  bool has_nan = false;
  for (int64_t i = 0; i < length; ++i) {
    float& partial = p[i % contract::kReductionPartials];
    has_nan = has_nan || x[i] != x[i];
    if (better(x[i], partial)) partial = x[i];
  }
  for (int half = contract::kReductionPartials / 2; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) p[j] = better(p[j + half], p[j]) ? p[j + half] : p[j];
  }
  return has_nan ? std::numeric_limits<float>::quiet_NaN() : p[0];
}

inline void Reduce(const cpu::ReduceArgs& args) {
  for (int64_t r = 0; r < args.rows; ++r) {
    const float* x = args.x + r * args.length;
    float& y = args.y[r];
    switch (args.op) {
      case cpu::ReduceOp::kSum:
        y = TreeSum(x, args.length);
        break;
      case cpu::ReduceOp::kMean:
        y = TreeSum(x, args.length) / static_cast<float>(args.length);
        break;
      case cpu::ReduceOp::kMax:
        y = Extreme(x, args.length, true);
        break;
      case cpu::ReduceOp::kMin:
        y = Extreme(x, args.length, false);
        break;
      case cpu::ReduceOp::kL2:
        y = std::sqrt(TreeSumSquare(x, args.length));
        break;
      case cpu::ReduceOp::kSumSquare:
        y = TreeSumSquare(x, args.length);
        break;
    }
  }
}

}  // namespace batch_invariant::reference

#endif  // BATCH_INVARIANT_KERNELS_REFERENCE_REDUCE_H_
