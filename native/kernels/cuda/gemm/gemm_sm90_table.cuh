// The shapes of gemm_sm90.cuh, once; each element type and table is instantiated in a file of its
// own.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_TABLE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_TABLE_CUH_

#include <type_traits>

#include "kernels/cuda/gemm/gemm_sm90_launch.cuh"
#include "kernels/cuda/gemm/gemm_sm90_table.h"

namespace batch_invariant::cuda {

template <typename T, typename Shape>
constexpr GemmKernel MakeSm90Kernel(const char* name) {
  return {name,
          std::is_same_v<T, __half> ? ElementType::kFloat16 : ElementType::kBFloat16,
          GemmNeeds::kKVectorsSm90,
          Shape::kRowsA,
          Shape::kN,
          Shape::kClusterM,
          Shape::kClusterN,
          &LaunchGemmSm90<T, Shape>,
          Shape::kTurns};
}

// Arguments of a shape: m, n, atoms, stages, cluster m, cluster n, fetched rows, staged columns,
// transposed, turns. A name is rows x columns a block, then the cluster if it is more than one
// block.

// Weights stream once, so a block takes few columns and keeps a deep ring. Which n leaves the
// fewest blocks idle depends on N alone: 32 suits 4096, 48 suits 6144.
template <typename T>
std::span<const GemmKernel> Sm90FewRows() {
  static constexpr GemmKernel kKernels[] = {
      MakeSm90Kernel<T, Sm90Shape<64, 32, 2, 20, 1, 1, 8, 0, true>>("wgmma_8x32"),
      MakeSm90Kernel<T, Sm90Shape<64, 48, 2, 14, 1, 1, 8, 0, true>>("wgmma_8x48"),
      MakeSm90Kernel<T, Sm90Shape<64, 64, 2, 11, 1, 1, 8, 0, true>>("wgmma_8x64"),
      MakeSm90Kernel<T, Sm90Shape<64, 32, 2, 16, 1, 1, 16>>("wgmma_16x32"),
      MakeSm90Kernel<T, Sm90Shape<64, 48, 2, 12, 1, 1, 16>>("wgmma_16x48"),
      MakeSm90Kernel<T, Sm90Shape<64, 64, 2, 10, 1, 1, 16>>("wgmma_16x64"),
      MakeSm90Kernel<T, Sm90Shape<64, 32, 2, 12, 1, 1, 32>>("wgmma_32x32"),
      MakeSm90Kernel<T, Sm90Shape<64, 48, 2, 10, 1, 1, 32>>("wgmma_32x48"),
      MakeSm90Kernel<T, Sm90Shape<64, 64, 2, 8, 1, 1, 32>>("wgmma_32x64"),
      MakeSm90Kernel<T, Sm90Shape<64, 32, 2, 8>>("wgmma_64x32"),
      MakeSm90Kernel<T, Sm90Shape<64, 48, 2, 7>>("wgmma_64x48"),
      MakeSm90Kernel<T, Sm90Shape<64, 64, 2, 6>>("wgmma_64x64"),
  };
  return kKernels;
}

// The tensor cores are the limit: the largest tile whose waves fill the chip wins.
template <typename T>
std::span<const GemmKernel> Sm90ManyRows() {
  static constexpr GemmKernel kKernels[] = {
      MakeSm90Kernel<T, Sm90Shape<64, 128, 1, 8, 1, 1, 64, 128, false, true>>("wgmma_64x128_turns"),
      MakeSm90Kernel<T, Sm90Shape<128, 128, 1, 6, 1, 1, 128, 128, false, true>>(
          "wgmma_128x128_turns"),
      MakeSm90Kernel<T, Sm90Shape<128, 64, 1, 8, 1, 1, 128, 64>>("wgmma_128x64"),
      MakeSm90Kernel<T, Sm90Shape<128, 96, 1, 7, 1, 1, 128, 96>>("wgmma_128x96"),
      MakeSm90Kernel<T, Sm90Shape<128, 192, 1, 4, 1, 1, 128, 192>>("wgmma_128x192"),
      MakeSm90Kernel<T, Sm90Shape<128, 192, 1, 4, 2, 1, 128, 192>>("wgmma_128x192_c21"),
      MakeSm90Kernel<T, Sm90Shape<128, 256, 1, 4, 1, 1, 128, 128>>("wgmma_128x256"),
      MakeSm90Kernel<T, Sm90Shape<128, 256, 1, 4, 2, 1, 128, 128>>("wgmma_128x256_c21"),
  };
  return kKernels;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_TABLE_CUH_
