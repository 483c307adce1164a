// Tensor maps for the bulk copy engine (sm_90).
#ifndef BATCH_INVARIANT_KERNELS_CUDA_COMMON_TENSOR_MAP_H_
#define BATCH_INVARIANT_KERNELS_CUDA_COMMON_TENSOR_MAP_H_

#include <cuda.h>

#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

// A rank-4 tensor of a 16-bit type, innermost dimension (contiguous) first. Strides are in
// elements, multiples of 8; that of a dimension of size 1 is ignored. data is 16-byte aligned. The
// box is 64 elements (128 bytes) wide and lies in shared memory in the 128-byte swizzle, or 32, in
// the 64-byte one; what it covers outside the tensor reads as zero and is not written.
struct TensorMapShape {
  ElementType type;
  const void* data;
  std::int64_t sizes[4];
  std::int64_t strides[3];  // of dimensions 1 to 3
  int box[4];
};

Status MakeTensorMap(const TensorMapShape& shape, CUtensorMap* map);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_COMMON_TENSOR_MAP_H_
