// Softmax and LogSoftmax on CUDA along any axis.
//
// Contract softmax.cuda, fp32 inside, for a row of `length` elements:
//   m = max(x);  e = exp(x - m) by the library's polynomial;  t = S(e), the sum of norm.cuda
//   (norm.h) Softmax     y = e / t LogSoftmax  y = (x - m) - log(t)
// with y rounded once. A row with NaN or +Inf, and one of -Inf only, gives NaN everywhere in that
// row.
#ifndef BATCH_INVARIANT_CUDA_SOFTMAX_H_
#define BATCH_INVARIANT_CUDA_SOFTMAX_H_

#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

inline constexpr const char* kSoftmaxContract = "softmax.cuda.v1";

// x and y are [outer, length, inner]; the softmax runs along `length`.
struct SoftmaxArgs {
  ElementType type = ElementType::kFloat32;
  std::int64_t outer = 0;
  std::int64_t length = 0;
  std::int64_t inner = 1;
  const void* x = nullptr;
  void* y = nullptr;  // may be x
};

// Enqueue on `stream`; allocate nothing, wait for nothing, can be captured in a graph.
// kInvalidArgument: a negative size or a missing operand. kDeviceError: the launch failed.
Status Softmax(const SoftmaxArgs& args, Stream stream);
Status LogSoftmax(const SoftmaxArgs& args, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_SOFTMAX_H_
