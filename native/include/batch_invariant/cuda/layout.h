// Ops on CUDA that move elements without changing them, and Range.
#ifndef BATCH_INVARIANT_CUDA_LAYOUT_H_
#define BATCH_INVARIANT_CUDA_LAYOUT_H_

#include <cstdint>
#include <span>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/cuda/data_type.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

// Every function enqueues on `stream`, allocates nothing, waits for nothing and can be captured in
// a graph. kInvalidArgument: a negative size, a missing operand, ranks that differ or exceed 8.

// to[i . to_strides] = from[i . from_strides] for every index i below `shape`; strides in elements,
// 0 and negative ones included. This is Transpose (permuted strides), Slice (a moved start, scaled
// strides), Expand (stride 0), and one part of Concat or Split.
struct CopyArgs {
  DataType type = DataType::kFloat32;
  std::span<const std::int64_t> shape;
  const void* from = nullptr;  // the element of index 0
  std::span<const std::int64_t> from_strides;
  void* to = nullptr;  // may not overlap `from`
  std::span<const std::int64_t> to_strides;
};
Status CopyStrided(const CopyArgs& args, Stream stream);

// y[i] = start + i * delta: integers exactly; floating point as fma(float(i), delta, start),
// rounded to the type once. start and delta are read on the host.
struct RangeArgs {
  DataType type = DataType::kInt64;  // fp32, fp16, bf16, int32, int64
  std::int64_t count = 0;
  double start = 0.0;  // floating-point types
  double delta = 1.0;
  std::int64_t integer_start = 0;  // integer types
  std::int64_t integer_delta = 1;
  void* y = nullptr;
};
Status Range(const RangeArgs& args, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_LAYOUT_H_
