// Reductions on CUDA along one axis (neighbouring reduced axes count as one).
//
// Contract reduce.cuda: fp32 inside with the sum S of norm.cuda (norm.h) over the row, y rounded
// once; the mean is S / float(length), kL2 the square root of the sum of squares (by fma). kMax and
// kMin are exact and keep a NaN. int32 and int64 are exact (sums wrap; the mean is towards zero).
#ifndef BATCH_INVARIANT_CUDA_REDUCE_H_
#define BATCH_INVARIANT_CUDA_REDUCE_H_

#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/cuda/data_type.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

inline constexpr const char* kReduceContract = "reduce.cuda.v1";

enum class ReduceOp : uint8_t { kSum, kMean, kMax, kMin, kL2, kSumSquare };

// y[o, i] = op over x[o, 0..length, i]. length 0: 0 for sums and L2, NaN (integers: 0) for the
// mean, the lowest value for the maximum, the highest for the minimum.
struct ReduceArgs {
  ReduceOp op = ReduceOp::kSum;
  DataType type = DataType::kFloat32;  // fp32, fp16, bf16, int32, int64
  std::int64_t outer = 0;
  std::int64_t length = 0;
  std::int64_t inner = 1;
  const void* x = nullptr;  // [outer, length, inner]
  void* y = nullptr;        // [outer, inner]
};

// Enqueues on `stream`; allocates nothing, waits for nothing, can be captured in a graph.
// kInvalidArgument: a negative size or a missing operand. kUnsupported: another type, L2 of
// integers.
Status Reduce(const ReduceArgs& args, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_REDUCE_H_
