// Eight neighbouring elements of a row to and from fp32 registers.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_NORM_ROW_IO_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_NORM_ROW_IO_CUH_

#include <cstdint>
#include <cstring>

#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/norm/row_sum.cuh"

namespace batch_invariant::cuda {

// Eight elements as they lie in memory. Held so, 16-bit elements take half a register each.
template <typename T>
struct alignas(16) RowWords {
  static constexpr int kCount = kRowVector * static_cast<int>(sizeof(T)) / 4;
  std::uint32_t w[kCount];

  // `at`: aligned to 16 bytes.
  static __device__ __forceinline__ RowWords Load(const T* at) {
    RowWords v;
#pragma unroll
    for (int i = 0; i < kCount / 4; ++i) {
      const uint4 four = reinterpret_cast<const uint4*>(at)[i];
      v.w[4 * i] = four.x;
      v.w[4 * i + 1] = four.y;
      v.w[4 * i + 2] = four.z;
      v.w[4 * i + 3] = four.w;
    }
    return v;
  }
  __device__ __forceinline__ void Store(T* at) const {
#pragma unroll
    for (int i = 0; i < kCount / 4; ++i) {
      reinterpret_cast<uint4*>(at)[i] =
          make_uint4(w[4 * i], w[4 * i + 1], w[4 * i + 2], w[4 * i + 3]);
    }
  }
  __device__ __forceinline__ void Widen(float (&x)[kRowVector]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if constexpr (sizeof(T) == 4) {
        x[i] = __uint_as_float(w[i]);
      } else {
        T pair[2];
        memcpy(pair, &w[i], 4);
        x[2 * i] = ToFloat(pair[0]);
        x[2 * i + 1] = ToFloat(pair[1]);
      }
    }
  }
  static __device__ __forceinline__ RowWords Round(const float (&x)[kRowVector]) {
    RowWords v;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if constexpr (sizeof(T) == 4) {
        v.w[i] = __float_as_uint(x[i]);
      } else {
        v.w[i] = PackPair<T>(x[2 * i], x[2 * i + 1]);
      }
    }
    return v;
  }
};

// `whole`: rows start at 16-byte boundaries and the eight elements are inside the row.
template <typename T>
__device__ __forceinline__ void LoadEight(const T* row, int column, int width, bool whole,
                                          float (&x)[kRowVector]) {
  if (whole) {
    RowWords<T>::Load(row + column).Widen(x);
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
    RowWords<T>::Round(x).Store(row + column);
  } else {
#pragma unroll
    for (int j = 0; j < kRowVector; ++j) {
      if (column + j < width) row[column + j] = FromFloat<T>(x[j]);
    }
  }
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_NORM_ROW_IO_CUH_
