// The shapes of the sm_90 kernels; each element type instantiates them in a file of its own.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_CUH_

#include <type_traits>

#include "kernels/cuda/matmul_nbits/nbits_sm90_launch.cuh"
#include "kernels/cuda/matmul_nbits/nbits_sm90_table.h"

namespace batch_invariant::cuda {

template <typename T, int kBits, typename Shape>
constexpr NBitsKernel MakeNBitsKernel(const char* name) {
  return {name,
          std::is_same_v<T, __half> ? ElementType::kFloat16 : ElementType::kBFloat16,
          kBits,
          true,
          Shape::kTokens,
          Shape::kTiles * kRecordRows,
          Shape::kRuns,
          0,
          &LaunchNBitsTiles<T, kBits, Shape>};
}

// Shapes: records a block, rows of a, records along K a stage, runs. A name is rows x columns a
// block.
template <typename T>
std::span<const NBitsKernel> Sm90NBitsKernels() {
  static constexpr NBitsKernel kKernels[] = {
      MakeNBitsKernel<T, 4, NBitsShape<4, 8, 2, 1>>("nbits4_8x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 8, 2, 1>>("nbits4_8x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 16, 2, 1>>("nbits4_16x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 16, 2, 1>>("nbits4_16x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 32, 2, 1>>("nbits4_32x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 32, 2, 1>>("nbits4_32x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 64, 1, 0>>("nbits4_64x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 64, 1, 0>>("nbits4_64x128"),
      MakeNBitsKernel<T, 4, NBitsShape<4, 128, 1, 0>>("nbits4_128x64"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 128, 1, 0>>("nbits4_128x128"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 160, 1, 0>>("nbits4_160x128"),
      MakeNBitsKernel<T, 4, NBitsShape<8, 256, 1, 1>>("nbits4_256x128"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 8, 2, 1>>("nbits8_8x64"),
      MakeNBitsKernel<T, 8, NBitsShape<8, 8, 2, 1>>("nbits8_8x128"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 32, 2, 1>>("nbits8_32x64"),
      MakeNBitsKernel<T, 8, NBitsShape<8, 32, 2, 1>>("nbits8_32x128"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 64, 1, 0>>("nbits8_64x64"),
      MakeNBitsKernel<T, 8, NBitsShape<8, 64, 1, 0>>("nbits8_64x128"),
      MakeNBitsKernel<T, 8, NBitsShape<4, 128, 1, 0>>("nbits8_128x64"),
      MakeNBitsKernel<T, 8, NBitsShape<8, 128, 1, 0>>("nbits8_128x128"),
  };
  return kKernels;
}

template <typename T, int kBits, typename Shape>
constexpr NBitsKernel MakeNBitsRunsKernel(const char* name) {
  return {name,
          std::is_same_v<T, __half> ? ElementType::kFloat16 : ElementType::kBFloat16,
          kBits,
          true,
          Shape::kTokens,
          Shape::kTiles * kRecordRows,
          Shape::kRuns,
          Shape::kWarps,
          &LaunchNBitsRunTiles<T, kBits, Shape>};
}

template <typename T>
std::span<const NBitsKernel> Sm90NBitsRunKernels() {
  static constexpr NBitsKernel kKernels[] = {
      MakeNBitsRunsKernel<T, 4, NBitsRunShape<8, 2>>("nbits4_runs_8x32"),
      MakeNBitsRunsKernel<T, 4, NBitsRunShape<8, 3>>("nbits4_runs_8x48"),
      MakeNBitsRunsKernel<T, 4, NBitsRunShape<16, 2>>("nbits4_runs_16x32"),
      MakeNBitsRunsKernel<T, 4, NBitsRunShape<8, 14, 1, 1>>("nbits4_warps_8x224"),
      MakeNBitsRunsKernel<T, 4, NBitsRunShape<8, 16, 1, 2>>("nbits4_warps_8x256"),
      MakeNBitsRunsKernel<T, 4, NBitsRunShape<16, 14, 1, 2>>("nbits4_warps_16x224"),
      MakeNBitsRunsKernel<T, 4, NBitsRunShape<16, 16, 1, 2>>("nbits4_warps_16x256"),
      MakeNBitsRunsKernel<T, 8, NBitsRunShape<8, 2>>("nbits8_runs_8x32"),
      MakeNBitsRunsKernel<T, 8, NBitsRunShape<8, 3>>("nbits8_runs_8x48"),
      MakeNBitsRunsKernel<T, 8, NBitsRunShape<16, 2>>("nbits8_runs_16x32"),
  };
  return kKernels;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_CUH_
