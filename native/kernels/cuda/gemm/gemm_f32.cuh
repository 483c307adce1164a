// GEMM, fp32: y = epilogue(a b), any strides.
//
// Accumulation: contract gemm.f32. Every output is one thread's chain acc = fma(a[k], b[k], acc), k
//   ascending from 0, acc from +0; nothing is added past the last k.
// May vary freely: tile shape, loads, the order of blocks.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_F32_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_F32_CUH_

#include <cstdint>

#include "kernels/cuda/common/launch.h"
#include "kernels/cuda/gemm/epilogue.cuh"
#include "kernels/cuda/gemm/tile_fill.cuh"

namespace batch_invariant::cuda {

// Element (row, k) of an operand, zero outside; the tile kernel is generic in it.
struct ReadF32 {
  Operand<float> x;
  __device__ __forceinline__ float Read(int batch, int row, int k) const {
    if (row >= x.rows || k >= x.k) return 0.0f;
    return *x.At(batch, row, k);
  }
  __device__ __forceinline__ bool KContiguous() const { return x.k_stride == 1; }
};

inline constexpr int kF32TileK = 16;

// kM x kN outputs a block of 256 threads, from (row0, column0) on; kM / 16 x kN / 16 a thread.
template <int kM, int kN, typename ReadA, typename ReadB>
__device__ __forceinline__ void ComputeGemmF32(const ReadA& read_a, const ReadB& read_b,
                                               const Epilogue<float>& epilogue, int k, int batch,
                                               int row0, int column0) {
  constexpr int kPerM = kM / 16, kPerN = kN / 16;
  __shared__ float tile_a[2][kF32TileK][kM + 1];
  __shared__ float tile_b[2][kF32TileK][kN + 1];

  const int thread_row = threadIdx.x / 16, thread_column = threadIdx.x % 16;

  float next_a[kPerM], next_b[kPerN];
  const auto read = [&](int k0) {
#pragma unroll
    for (int i = 0; i < kPerM; ++i) {
      const int e = threadIdx.x + 256 * i;
      const int row = read_a.KContiguous() ? e / kF32TileK : e % kM;
      const int kk = read_a.KContiguous() ? e % kF32TileK : e / kM;
      next_a[i] = read_a.Read(batch, row0 + row, k0 + kk);
    }
#pragma unroll
    for (int i = 0; i < kPerN; ++i) {
      const int e = threadIdx.x + 256 * i;
      const int row = read_b.KContiguous() ? e / kF32TileK : e % kN;
      const int kk = read_b.KContiguous() ? e % kF32TileK : e / kN;
      next_b[i] = read_b.Read(batch, column0 + row, k0 + kk);
    }
  };
  const auto write = [&](int buffer) {
#pragma unroll
    for (int i = 0; i < kPerM; ++i) {
      const int e = threadIdx.x + 256 * i;
      const int row = read_a.KContiguous() ? e / kF32TileK : e % kM;
      const int kk = read_a.KContiguous() ? e % kF32TileK : e / kM;
      tile_a[buffer][kk][row] = next_a[i];
    }
#pragma unroll
    for (int i = 0; i < kPerN; ++i) {
      const int e = threadIdx.x + 256 * i;
      const int row = read_b.KContiguous() ? e / kF32TileK : e % kN;
      const int kk = read_b.KContiguous() ? e % kF32TileK : e / kN;
      tile_b[buffer][kk][row] = next_b[i];
    }
  };

  float acc[kPerM][kPerN] = {};
  const auto multiply = [&](int buffer, int kk) {
#pragma unroll
    for (int i = 0; i < kPerM; ++i) {
      const float x = tile_a[buffer][kk][thread_row + 16 * i];
#pragma unroll
      for (int j = 0; j < kPerN; ++j) {
        acc[i][j] = __fmaf_rn(x, tile_b[buffer][kk][thread_column + 16 * j], acc[i][j]);
      }
    }
  };

  if (k > 0) {
    read(0);
    write(0);
  }
  __syncthreads();
  for (int k0 = 0, buffer = 0; k0 < k; k0 += kF32TileK, buffer ^= 1) {
    const bool more = k0 + kF32TileK < k;
    if (more) read(k0 + kF32TileK);
    if (k - k0 >= kF32TileK) {
#pragma unroll
      for (int kk = 0; kk < kF32TileK; ++kk) multiply(buffer, kk);
    } else {
      // Not filled up with zeros: fma(0, 0, acc) would turn an accumulator of -0 into +0.
      for (int kk = 0; kk < k - k0; ++kk) multiply(buffer, kk);
    }
    if (more) write(buffer ^ 1);
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < kPerM; ++i) {
#pragma unroll
    for (int j = 0; j < kPerN; ++j) {
      epilogue.Store(batch, row0 + thread_row + 16 * i, column0 + thread_column + 16 * j,
                     acc[i][j]);
    }
  }
}

template <int kM, int kN, typename ReadA, typename ReadB>
__global__ void __launch_bounds__(256)
    GemmF32(ReadA read_a, ReadB read_b, Epilogue<float> epilogue, int k, int tiles_m, int tiles_n) {
  const int tile = blockIdx.x;
  ComputeGemmF32<kM, kN>(read_a, read_b, epilogue, k, tile / tiles_m / tiles_n, tile % tiles_m * kM,
                         tile / tiles_m % tiles_n * kN);
}

template <int kM, int kN, typename ReadA, typename ReadB>
Status LaunchGemmF32(ReadA read_a, ReadB read_b, const Epilogue<float>& epilogue, std::int64_t k,
                     std::int64_t batch, Stream stream) {
  const std::int64_t tiles_m = CeilDiv(epilogue.m, kM);
  const std::int64_t tiles_n = CeilDiv(epilogue.n, kN);
  const std::int64_t blocks = tiles_m * tiles_n * batch;
  if (blocks > 0x7fffffff) {
    return Status::Unsupported("MatMul: more than 2^31 - 1 output tiles; split the batch");
  }
  GemmF32<kM, kN><<<static_cast<unsigned>(blocks), 256, 0, stream>>>(
      read_a, read_b, epilogue, static_cast<int>(k), static_cast<int>(tiles_m),
      static_cast<int>(tiles_n));
  return LaunchStatus("GemmF32");
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_F32_CUH_
