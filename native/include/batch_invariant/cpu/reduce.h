// Reductions over the last axes in fp32, contract reduce.f32.
#ifndef BATCH_INVARIANT_CPU_REDUCE_H_
#define BATCH_INVARIANT_CPU_REDUCE_H_

#include <cstdint>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cpu {

enum class ReduceOp : uint8_t { kSum, kMean, kMax, kMin, kL2, kSumSquare };

// y[r] = op over x[r, 0..length). Sums follow the tree of norm.f32; kMean divides by float(length);
// kL2 is the square root of the sum of squares. kMax and kMin give NaN when the row holds one.
// length 0: 0 for sums and L2, NaN for the mean, -Inf for the maximum, +Inf for the minimum.
struct ReduceArgs {
  ReduceOp op = ReduceOp::kSum;
  int64_t rows = 0;
  int64_t length = 0;
  const float* x = nullptr;  // [rows, length]
  float* y = nullptr;        // [rows]
};

// kInvalidArgument: a negative size or a missing operand.
Status ReduceF32(const Context& context, const ReduceArgs& args);

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_CPU_REDUCE_H_
