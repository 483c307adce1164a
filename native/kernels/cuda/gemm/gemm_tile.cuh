// GEMM, fp16 and bf16, compute capability 8.0 and newer: y = epilogue(a b).
//
// Layouts: a [m, k], b [k, n], any strides (the fills read them); y rows contiguous.
// Accumulation: contract gemm.tc16. One fp32 accumulator per output, from +0, K ascending in
//   mma.sync m16n8k16 steps; the last step is filled up with zeros.
// May vary freely: tile shape, number of stages, how the tiles are filled, the order of blocks.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_TILE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_TILE_CUH_

#include <cstdint>

#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/gemm/epilogue.cuh"
#include "kernels/cuda/gemm/tile_fill.cuh"

namespace batch_invariant::cuda {

// kM x kN outputs a block, kWarpM x kWarpN a warp, kStages tiles of K in flight.
template <int kM_, int kN_, int kWarpM_, int kWarpN_, int kStages_>
struct TileShape {
  static constexpr int kM = kM_, kN = kN_, kWarpM = kWarpM_, kWarpN = kWarpN_;
  static constexpr int kStages = kStages_;
  static constexpr int kThreads = 32 * (kM / kWarpM) * (kN / kWarpN);
  static constexpr int kStageBytes = (kM + kN) * kTileK * 2;
  static constexpr int kSharedBytes = kStages * kStageBytes;
};

// One block's outputs, from (row0, column0) on. `run_k` (a multiple of 64, used with kRuns): K is
// cut into runs of that length, each with its own accumulator; their sums are added ascending.
template <typename T, typename Shape, bool kRuns, typename FillA, typename FillB>
__device__ __forceinline__ void ComputeGemmTile(unsigned char* shared, const FillA& fill_a,
                                                const FillB& fill_b, const Epilogue<T>& epilogue,
                                                int k, int run_k, int batch, int row0,
                                                int column0) {
  constexpr int kFragmentsM = Shape::kWarpM / 16;
  constexpr int kFragmentsN = Shape::kWarpN / 16;  // pairs of 8 columns

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warp_row = warp % (Shape::kM / Shape::kWarpM) * Shape::kWarpM;
  const int warp_column = warp / (Shape::kM / Shape::kWarpM) * Shape::kWarpN;
  const int steps = (k + kTileK - 1) / kTileK;

  const auto fill = [&](int step) {
    unsigned char* stage = shared + step % Shape::kStages * Shape::kStageBytes;
    fill_a.template Fill<Shape::kM, Shape::kThreads>(stage, batch, row0, step * kTileK);
    fill_b.template Fill<Shape::kN, Shape::kThreads>(stage + Shape::kM * kTileK * 2, batch, column0,
                                                     step * kTileK);
  };

  float acc[kFragmentsM][kFragmentsN][2][4] = {};
  float total[kFragmentsM][kFragmentsN][2][4] = {};  // of the runs before
  const auto end_run = [&] {
#pragma unroll
    for (int i = 0; i < kFragmentsM * kFragmentsN * 8; ++i) {
      float& sum = (&acc[0][0][0][0])[i];
      (&total[0][0][0][0])[i] = __fadd_rn((&total[0][0][0][0])[i], sum);
      sum = 0.0f;
    }
  };
  std::uint32_t a[2][kFragmentsM][4], b[2][kFragmentsN][4];

  const auto load = [&](int step, int sub, int buffer) {
    const std::uint32_t tile_a = SharedAddress(shared) + step % Shape::kStages * Shape::kStageBytes;
    const std::uint32_t tile_b = tile_a + Shape::kM * kTileK * 2;
    const int matrix = lane / 8, line = lane % 8;
#pragma unroll
    for (int i = 0; i < kFragmentsM; ++i) {
      const int row = warp_row + 16 * i + matrix % 2 * 8 + line;
      LoadMatrix4(a[buffer][i], tile_a + SwizzledOffset(row, 2 * sub + matrix / 2));
    }
#pragma unroll
    for (int j = 0; j < kFragmentsN; ++j) {
      if constexpr (FillB::kKMajor) {
        const int row = warp_column + 16 * j + matrix / 2 * 8 + line;
        LoadMatrix4(b[buffer][j], tile_b + SwizzledOffset(row, 2 * sub + matrix % 2));
      } else {
        const int kk = 16 * sub + matrix % 2 * 8 + line;
        const int chunk = (warp_column + 16 * j) / 8 + matrix / 2;
        LoadMatrix4Transposed(b[buffer][j],
                              tile_b + kk * Shape::kN * 2 + ((chunk ^ (kk & 7)) << 4));
      }
    }
  };

#pragma unroll
  for (int step = 0; step < Shape::kStages - 1; ++step) {
    if (step < steps) fill(step);
    CopyAsyncCommit();
  }
  for (int step = 0; step < steps; ++step) {
    CopyAsyncWait<Shape::kStages - 2>();
    __syncthreads();
    load(step, 0, 0);
    if (step + Shape::kStages - 1 < steps) fill(step + Shape::kStages - 1);
    CopyAsyncCommit();
#pragma unroll
    for (int sub = 0; sub < kTileK / 16; ++sub) {
      if (sub + 1 < kTileK / 16) load(step, sub + 1, (sub + 1) % 2);
#pragma unroll
      for (int i = 0; i < kFragmentsM; ++i) {
#pragma unroll
        for (int j = 0; j < kFragmentsN; ++j) {
          MmaStep<T>(acc[i][j][0], a[sub % 2][i], b[sub % 2][j][0], b[sub % 2][j][1]);
          MmaStep<T>(acc[i][j][1], a[sub % 2][i], b[sub % 2][j][2], b[sub % 2][j][3]);
        }
      }
    }
    if constexpr (kRuns) {
      if ((step + 1) * kTileK % run_k == 0) end_run();
    }
  }

#pragma unroll
  for (int i = 0; i < kFragmentsM; ++i) {
#pragma unroll
    for (int j = 0; j < kFragmentsN; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = row0 + warp_row + 16 * i + lane / 4;
        const int column = column0 + warp_column + 16 * j + 8 * half + lane % 4 * 2;
        const float(&v)[4] = kRuns ? total[i][j][half] : acc[i][j][half];
        epilogue.StorePair(batch, row, column, v[0], v[1]);
        epilogue.StorePair(batch, row + 8, column, v[2], v[3]);
      }
    }
  }
}

template <typename T, typename Shape, bool kRuns, typename FillA, typename FillB>
__global__ void __launch_bounds__(Shape::kThreads)
    GemmTile(FillA fill_a, FillB fill_b, Epilogue<T> epilogue, int k, int run_k, int tiles_m,
             int tiles_n) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const int tile = blockIdx.x;
  const int row0 = tile % tiles_m * Shape::kM;
  const int column0 = tile / tiles_m % tiles_n * Shape::kN;
  ComputeGemmTile<T, Shape, kRuns>(shared, fill_a, fill_b, epilogue, k, run_k,
                                   tile / tiles_m / tiles_n, row0, column0);
}

template <typename T, typename Shape, bool kRuns, typename FillA, typename FillB>
Status LaunchGemmTileRuns(FillA fill_a, FillB fill_b, const Epilogue<T>& epilogue, std::int64_t k,
                          std::int64_t run_k, std::int64_t batch, Stream stream) {
  auto* kernel = &GemmTile<T, Shape, kRuns, FillA, FillB>;
  BATCH_INVARIANT_RETURN_IF_ERROR(AllowSharedMemory(kernel, Shape::kSharedBytes, "GemmTile"));
  const std::int64_t tiles_m = CeilDiv(epilogue.m, Shape::kM);
  const std::int64_t tiles_n = CeilDiv(epilogue.n, Shape::kN);
  const std::int64_t blocks = tiles_m * tiles_n * batch;
  if (blocks > 0x7fffffff) {
    return Status::Unsupported("MatMul: more than 2^31 - 1 output tiles; split the batch");
  }
  kernel<<<static_cast<unsigned>(blocks), Shape::kThreads, Shape::kSharedBytes, stream>>>(
      fill_a, fill_b, epilogue, static_cast<int>(k), static_cast<int>(run_k),
      static_cast<int>(tiles_m), static_cast<int>(tiles_n));
  return LaunchStatus("GemmTile");
}

template <typename T, typename Shape, typename FillA, typename FillB>
Status LaunchGemmTile(FillA fill_a, FillB fill_b, const Epilogue<T>& epilogue, std::int64_t k,
                      std::int64_t batch, Stream stream) {
  return LaunchGemmTileRuns<T, Shape, false>(fill_a, fill_b, epilogue, k, k, batch, stream);
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_TILE_CUH_
