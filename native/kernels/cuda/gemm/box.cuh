// Boxes of y in shared memory on their way out (sm_90): rows of kBox = 64 or 32 columns of a 16-bit
// type in the swizzle that a tensor map has for them (tensor_map.h).
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_BOX_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_BOX_CUH_

#include <cstdint>

#include "kernels/cuda/common/hopper.cuh"
#include "kernels/cuda/gemm/epilogue.cuh"

namespace batch_invariant::cuda {

// Of 16-byte chunk `chunk` of row `row`.
template <int kBox>
__device__ __forceinline__ std::uint32_t BoxOffset(int row, int chunk) {
  static_assert(kBox == 64 || kBox == 32);
  return row * (kBox * 2) + ((chunk ^ (kBox == 64 ? row % 8 : row / 2 % 4)) << 4);
}

// For y whose rows no tensor map can have: a warpgroup stores the box, `rows` rows from `row` and
// `column` of y on, element by element. Few instructions rather than fast ones.
template <int kBox, typename T>
__device__ __forceinline__ void StoreBoxElements(const Epilogue<T>& e, int batch, int row,
                                                 int column, int rows, std::uint32_t box) {
  constexpr int kPairs = kBox / 2;
#pragma unroll 1
  for (int i = threadIdx.x % 128; i < rows * kPairs; i += 128) {
    const int r = i / kPairs, pair = i % kPairs;
    std::uint32_t word;
    asm volatile("ld.shared.b32 %0, [%1];\n"
                 : "=r"(word)
                 : "r"(box + BoxOffset<kBox>(r, pair / 4) + pair % 4 * 4)
                 : "memory");
    const T* values = reinterpret_cast<const T*>(&word);
    const int y_row = row + r, y_column = column + 2 * pair;
    T* y = e.y + batch * e.y_batch_stride + y_row * e.y_row_stride + y_column;
    if (y_row < e.m && y_column < e.n) y[0] = values[0];
    if (y_row < e.m && y_column + 1 < e.n) y[1] = values[1];
  }
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_BOX_CUH_
