// Tensor maps for the bulk copy engine (sm_90).
#ifndef BATCH_INVARIANT_KERNELS_CUDA_COMMON_TENSOR_MAP_H_
#define BATCH_INVARIANT_KERNELS_CUDA_COMMON_TENSOR_MAP_H_

#include <cuda.h>

#include <cstdint>

#include "batch_invariant/cuda/common.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

// [batch, rows, columns] with contiguous columns of a 16-bit type; strides in elements, multiples
// of 8, data 16-byte aligned. A box is box_rows x box_columns (128 bytes at most a row, in the
// 128-byte swizzle); what it covers outside the tensor reads as zero.
struct TensorMapShape {
  ElementType type;
  const void* data;
  std::int64_t columns;
  std::int64_t rows;
  std::int64_t batch;
  std::int64_t row_stride;
  std::int64_t batch_stride;
  int box_columns;
  int box_rows;
};

Status MakeTensorMap(const TensorMapShape& shape, CUtensorMap* map);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_COMMON_TENSOR_MAP_H_
