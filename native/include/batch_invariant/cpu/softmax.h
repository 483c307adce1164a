// Softmax and LogSoftmax in fp32 along any axis, contract softmax.f32.
#ifndef BATCH_INVARIANT_CPU_SOFTMAX_H_
#define BATCH_INVARIANT_CPU_SOFTMAX_H_

#include <cstdint>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cpu {

// x and y are [outer, length, inner], the softmax runs along `length`; outer * inner rows.
//   m = max(x);  e = exp(x - m);  t = tree of norm.f32 over e
//   Softmax     y = e * (1 / t)
//   LogSoftmax  y = (x - m) - log(t)
// A row with NaN or +Inf, and one of -Inf only, gives NaN everywhere in that row.
struct SoftmaxArgs {
  int64_t outer = 0;
  int64_t length = 0;
  int64_t inner = 1;
  const float* x = nullptr;
  float* y = nullptr;  // may be x
};

// kInvalidArgument: a negative size or a missing operand; kOutOfMemory: no scratch (inner > 1
// only).
Status SoftmaxF32(const Context& context, const SoftmaxArgs& args);
Status LogSoftmaxF32(const Context& context, const SoftmaxArgs& args);

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_CPU_SOFTMAX_H_
