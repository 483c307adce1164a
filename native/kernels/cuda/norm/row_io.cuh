// Eight neighbouring elements of a row to and from fp32 registers.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_NORM_ROW_IO_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_NORM_ROW_IO_CUH_

#include <cstdint>

#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/norm/row_sum.cuh"

namespace batch_invariant::cuda {

template <typename T>
struct alignas(16) EightElements {
  T x[kRowVector];
};

// `whole`: rows start at 16-byte boundaries and the eight elements are inside the row.
template <typename T>
__device__ __forceinline__ void LoadEight(const T* row, int column, int width, bool whole,
                                          float (&x)[kRowVector]) {
  if (whole) {
    const auto v = *reinterpret_cast<const EightElements<T>*>(row + column);
#pragma unroll
    for (int j = 0; j < kRowVector; ++j) x[j] = ToFloat(v.x[j]);
  } else {
#pragma unroll
    for (int j = 0; j < kRowVector; ++j) {
      x[j] = column + j < width ? ToFloat(row[column + j]) : 0.0f;
    }
  }
}

template <typename T>
__device__ __forceinline__ void StoreEight(T* row, int column, int width, bool whole,
                                           const float (&x)[kRowVector]) {
  if (whole) {
    EightElements<T> v;
#pragma unroll
    for (int j = 0; j < kRowVector; ++j) v.x[j] = FromFloat<T>(x[j]);
    *reinterpret_cast<EightElements<T>*>(row + column) = v;
  } else {
#pragma unroll
    for (int j = 0; j < kRowVector; ++j) {
      if (column + j < width) row[column + j] = FromFloat<T>(x[j]);
    }
  }
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_NORM_ROW_IO_CUH_
