// The end of both GEMM contracts: scale, add c, round once, store.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_EPILOGUE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_EPILOGUE_CUH_

#include <cstdint>

#include "batch_invariant/cuda/gemm.h"
#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/elementwise/silu.cuh"

namespace batch_invariant::cuda {

template <typename T>
struct Epilogue {
  T* y;
  std::int64_t y_row_stride;
  std::int64_t y_batch_stride;
  const T* c;  // null: none
  std::int64_t c_row_stride;
  std::int64_t c_column_stride;
  float alpha;
  float beta;
  int m;
  int n;
  bool paired;  // two neighbours of a row (even column first) are 4-byte aligned together
  bool wide;    // eight neighbours of a row are 16-byte aligned together
  bool gated;   // GemmArgs::silu_gated: n counts columns of y, half of those of b

  // The accumulator as the contract has it. Tensor cores: a tiny negative sum may underflow to -0,
  // and whether a later step of zeros follows is the tile's choice; adding +0 makes both the same.
  __device__ __forceinline__ float Sum(float acc) const {
    return sizeof(T) == 2 ? __fadd_rn(acc, 0.0f) : acc;
  }
  // The value of y of a gate's and an up matrix's sum.
  __device__ __forceinline__ float Gate(float gate, float up) const {
    return SiluTimes<T>(ToFloat(FromFloat<T>(Sum(gate))), ToFloat(FromFloat<T>(Sum(up))));
  }
  // Whether the sum is the value.
  __device__ __forceinline__ bool Plain() const { return c == nullptr && alpha == 1.0f; }
  __device__ __forceinline__ float Scale(int row, int column, float sum) const {
    const float scaled = __fmul_rn(alpha, sum);
    if (c == nullptr) return scaled;
    return __fmaf_rn(beta, ToFloat(c[row * c_row_stride + column * c_column_stride]), scaled);
  }
  __device__ __forceinline__ float Finish(int row, int column, float acc) const {
    const float sum = Sum(acc);
    return Plain() ? sum : Scale(row, column, sum);
  }

  __device__ __forceinline__ void Store(int batch, int row, int column, float acc) const {
    if (row >= m || column >= n) return;
    float value = Finish(row, column, acc);
    if constexpr (sizeof(T) == 4) {
      if (value != value) value = __uint_as_float(0x7fc00000u);
    }
    y[batch * y_batch_stride + row * y_row_stride + column] = FromFloat<T>(value);
  }

  // Columns `column` (even) and `column` + 1. 16-bit types only.
  __device__ __forceinline__ void StorePair(int batch, int row, int column, float acc0,
                                            float acc1) const {
    if (paired && row < m && column + 1 < n) {
      const std::uint32_t pair =
          PackPair<T>(Finish(row, column, acc0), Finish(row, column + 1, acc1));
      *reinterpret_cast<std::uint32_t*>(y + batch * y_batch_stride + row * y_row_stride + column) =
          pair;
    } else {
      Store(batch, row, column, acc0);
      Store(batch, row, column + 1, acc1);
    }
  }
};

template <typename T>
Epilogue<T> MakeEpilogue(const GemmArgs& args) {
  Epilogue<T> e;
  e.y = static_cast<T*>(args.y);
  e.y_row_stride = args.y_row_stride;
  e.y_batch_stride = args.y_batch_stride;
  e.c = args.beta == 0.0f ? nullptr : static_cast<const T*>(args.c.data);
  e.c_row_stride = args.c.row_stride;
  e.c_column_stride = args.c.column_stride;
  e.alpha = args.alpha;
  e.beta = args.beta;
  e.m = static_cast<int>(args.m);
  e.n = static_cast<int>(args.silu_gated ? args.n / 2 : args.n);
  e.gated = args.silu_gated;
  const auto address = reinterpret_cast<std::uintptr_t>(args.y);
  e.paired = address % 4 == 0 && args.y_row_stride % 2 == 0 && args.y_batch_stride % 2 == 0;
  e.wide = address % 16 == 0 && args.y_row_stride % 8 == 0 && args.y_batch_stride % 8 == 0;
  return e;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_EPILOGUE_CUH_
