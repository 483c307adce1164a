// The end of products that compute the transpose of y: weights as rows, rows of a as columns.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_STORE_TRANSPOSED_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_STORE_TRANSPOSED_CUH_

#include <cstdint>

#include "kernels/cuda/gemm/epilogue.cuh"

namespace batch_invariant::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// acc[2 * i + half] of 8 rows of a: weight row 8 * half + g, rows 2t, 2t + 1 of a. Turned around by
// 8 x 8 transposes, so that a lane stores two neighbouring columns of one row of y.
template <typename T>
__device__ __forceinline__ void StoreTransposed(const Epilogue<T>& e, int row0, int column0,
                                                int lane, const float (&acc)[4]) {
  const int g = lane / 4, t = lane % 4;
  // Eight columns of y from `column` on: this lane's pair is of column g, rows 2t and 2t + 1.
  const auto store = [&](std::uint32_t pair, int column) {
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;\n" : "+r"(pair));
    const int y_row = row0 + g, y_column = column + 2 * t;
    if (y_row >= e.m || y_column >= e.n) return;
    T* y = e.y + y_row * e.y_row_stride + y_column;
    if (e.paired && y_column + 1 < e.n) {
      *reinterpret_cast<std::uint32_t*>(y) = pair;
    } else {
      const T* values = reinterpret_cast<const T*>(&pair);
      y[0] = values[0];
      if (y_column + 1 < e.n) y[1] = values[1];
    }
  };
  if (e.gated) {
    // The first eight weight rows are of the gate matrix, the others of the up matrix.
    store(PackPair<T>(e.Gate(acc[0], acc[2]), e.Gate(acc[1], acc[3])), column0 / 2);
    return;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    // c is read within bounds; what lies outside is not stored.
    const int column = min(column0 + 8 * half + g, e.n - 1);
    const int row = row0 + 2 * t;
    store(PackPair<T>(e.Finish(min(row, e.m - 1), column, acc[2 * half]),
                      e.Finish(min(row + 1, e.m - 1), column, acc[2 * half + 1])),
          column0 + 8 * half);
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_STORE_TRANSPOSED_CUH_
