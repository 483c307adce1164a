// How a tile of an operand gets into shared memory. The tile kernel (gemm_tile.cuh) is generic in
// this: every fill writes the same values, so it decides speed only.
//
// K-major tiles are rows of 64 elements (128 bytes); the 16-byte chunk c of row r is stored at
// chunk c ^ (r % 8), which keeps ldmatrix free of bank conflicts. Everything outside the matrix is
// zero.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_TILE_FILL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_TILE_FILL_CUH_

#include <cstdint>

#include "batch_invariant/cuda/gemm.h"
#include "kernels/cuda/common/mma.cuh"
#include "kernels/cuda/gemm/packed_layout.h"

namespace batch_invariant::cuda {

inline constexpr int kTileK = 64;

__device__ __forceinline__ int SwizzledOffset(int row, int chunk) {
  return row * 128 + ((chunk ^ (row & 7)) << 4);
}

// A matrix [rows, k] seen from its K side, whatever its layout: element (row, k) is at
//   row / 16 * group_stride + row % 16 * row_stride + k / 64 * tile_stride + k % 64 * k_stride,
// which covers strided matrices and packed weights.
template <typename T>
struct Operand {
  const T* data;
  std::int64_t row_stride;
  std::int64_t k_stride;
  std::int64_t group_stride;
  std::int64_t tile_stride;
  std::int64_t batch_stride;
  int rows;
  int k;

  __device__ __forceinline__ const T* At(int batch, int row, int kk) const {
    return data + batch * batch_stride + row / kPackedColumns * group_stride +
           row % kPackedColumns * row_stride + kk / kPackedK * tile_stride +
           kk % kPackedK * k_stride;
  }
};

template <typename T>
Operand<T> StridedOperand(const void* data, std::int64_t row_stride, std::int64_t k_stride,
                          std::int64_t batch_stride, std::int64_t rows, std::int64_t k) {
  return {static_cast<const T*>(data), row_stride,          k_stride,
          kPackedColumns * row_stride, kPackedK * k_stride, batch_stride,
          static_cast<int>(rows),      static_cast<int>(k)};
}

template <typename T>
Operand<T> OperandA(const GemmArgs& g) {
  return StridedOperand<T>(g.a.data, g.a.row_stride, g.a.column_stride, g.a_batch_stride, g.m, g.k);
}

template <typename T>
Operand<T> OperandB(const GemmArgs& g) {
  if (g.packed_b == nullptr) {
    return StridedOperand<T>(g.b.data, g.b.column_stride, g.b.row_stride, g.b_batch_stride, g.n,
                             g.k);
  }
  if (sizeof(T) == 4) return StridedOperand<T>(g.packed_b, PackedF32Row(g.k), 1, 0, g.n, g.k);
  return {static_cast<const T*>(g.packed_b),
          kPackedK,
          1,
          PackedTilesK(g.k) * kPackedTile,
          kPackedTile,
          0,
          static_cast<int>(g.n),
          static_cast<int>(g.k)};
}

// K contiguous, rows 16-byte aligned: asynchronous 16-byte copies.
template <typename T>
struct FillKVectors {
  static constexpr bool kKMajor = true;
  Operand<T> x;

  template <int kRows, int kThreads>
  __device__ __forceinline__ void Fill(unsigned char* tile, int batch, int row0, int k0) const {
    const std::uint32_t address = SharedAddress(tile);
#pragma unroll
    for (int i = threadIdx.x; i < kRows * 8; i += kThreads) {
      const int row = i / 8, chunk = i % 8;
      const int k = k0 + 8 * chunk;
      const bool inside = row0 + row < x.rows && k < x.k;
      const int bytes = inside ? 2 * min(8, x.k - k) : 0;
      const T* source = inside ? x.At(batch, row0 + row, k) : x.data;
      CopyAsync16(address + SwizzledOffset(row, chunk), source, bytes);
    }
  }
};

// N contiguous (b as ONNX stores it): the tile is [64 k][kRows n], chunk c of row k at c ^ (k % 8).
template <typename T>
struct FillNVectors {
  static constexpr bool kKMajor = false;
  Operand<T> x;

  template <int kRows, int kThreads>
  __device__ __forceinline__ void Fill(unsigned char* tile, int batch, int row0, int k0) const {
    static_assert(kRows % 64 == 0);
    constexpr int kChunks = kRows / 8;
    const std::uint32_t address = SharedAddress(tile);
#pragma unroll
    for (int i = threadIdx.x; i < kTileK * kChunks; i += kThreads) {
      const int k = i / kChunks, chunk = i % kChunks;
      const int row = row0 + 8 * chunk;
      const bool inside = row < x.rows && k0 + k < x.k;
      const int bytes = inside ? 2 * min(8, x.rows - row) : 0;
      const T* source = inside ? x.At(batch, row, k0 + k) : x.data;
      CopyAsync16(address + k * kRows * 2 + ((chunk ^ (k & 7)) << 4), source, bytes);
    }
  }
};

// Any strides, any alignment: one element at a time.
template <typename T>
struct FillElements {
  static constexpr bool kKMajor = true;
  Operand<T> x;

  template <int kRows, int kThreads>
  __device__ __forceinline__ void Fill(unsigned char* tile, int batch, int row0, int k0) const {
    for (int i = threadIdx.x; i < kRows * 8; i += kThreads) {
      // Neighbouring threads follow the contiguous dimension.
      const int row = x.k_stride == 1 ? i / 8 : i % kRows;
      const int chunk = x.k_stride == 1 ? i % 8 : i / kRows;
      alignas(16) T values[8];
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const int k = k0 + 8 * chunk + e;
        values[e] = row0 + row < x.rows && k < x.k ? *x.At(batch, row0 + row, k) : T(0.0f);
      }
      *reinterpret_cast<uint4*>(tile + SwizzledOffset(row, chunk)) =
          *reinterpret_cast<const uint4*>(values);
    }
  }
};

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_TILE_FILL_CUH_
