// Element access to packed weights: any element type, any zero points. Used by the kernels that are
// generic in how a tile is filled (compute capability 8.0, fp32, zero points of the element type).
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_READ_PACKED_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_READ_PACKED_CUH_

#include <cstdint>

#include "kernels/cuda/common/convert.cuh"
#include "kernels/cuda/gemm/tile_fill.cuh"
#include "kernels/cuda/matmul_nbits/packed_layout.h"

namespace batch_invariant::cuda {

template <typename T>
struct PackedWeights {
  const unsigned char* packed;
  PackedLayout layout;
  float zero;         // the default zero point
  float zero_offset;  // in stored zero points; 0 for zero points of the element type
  int n;
  int k;

  // w[row, k] for row < 16 * records_n and k < 128 * records_k.
  __device__ __forceinline__ T Weight(int row, int kk) const {
    const std::int64_t index = layout.Position(row / kRecordRows, kk / kRecordK);
    const unsigned char* record = packed + index * layout.record_bytes();
    const int r = row % kRecordRows, in = kk % kRecordK;
    const int step = in / 16, lane = 4 * (r % 8) + in % 8 / 2;
    const int register_index = r / 8 + in % 16 / 8 * 2, half = in % 2;
    std::uint32_t code;
    if (layout.bits == 4) {
      const auto* words = reinterpret_cast<const std::uint32_t*>(record);
      const std::uint32_t word = words[step / 4 * 128 + lane * 4 + step % 4];
      code = (word >> (4 * (register_index + 4 * half))) & 0xf;
    } else {
      const int ordinal = 2 * step + register_index / 2;
      code =
          record[(ordinal / 4 * 128 + lane * 4 + ordinal % 4) * 4 + register_index % 2 * 2 + half];
    }
    const int scale_index = (in >> layout.part_shift) * kRecordRows + r % 8 * 2 + r / 8;
    const T* scales = reinterpret_cast<const T*>(record + layout.code_bytes());
    const T* zeros =
        reinterpret_cast<const T*>(record + layout.code_bytes() + layout.scale_bytes());
    const float z = layout.has_zeros ? ToFloat(zeros[scale_index]) - zero_offset : zero;
    return FromFloat<T>(__fmul_rn(static_cast<float>(code) - z, ToFloat(scales[scale_index])));
  }
};

template <typename T>
PackedWeights<T> PackedWeightsOf(const MatMulNBitsPlan& plan, const void* packed) {
  PackedWeights<T> w;
  w.packed = static_cast<const unsigned char*>(packed);
  w.layout = LayoutOf(plan);
  w.zero = static_cast<float>(1 << (plan.bits - 1));
  w.zero_offset =
      plan.zero_points == ZeroPoints::kPacked ? ZeroOffset(plan.type, w.layout.bits) : 0.0f;
  w.n = static_cast<int>(plan.n);
  w.k = static_cast<int>(plan.k);
  return w;
}

template <typename T>
struct FillPacked {
  static constexpr bool kKMajor = true;
  PackedWeights<T> w;

  template <int kRows, int kThreads>
  __device__ __forceinline__ void Fill(unsigned char* tile, int, int row0, int k0) const {
    for (int i = threadIdx.x; i < kRows * 8; i += kThreads) {
      const int row = i / 8, chunk = i % 8;
      alignas(16) T values[8];
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const int k = k0 + 8 * chunk + e;
        values[e] = row0 + row < w.n && k < w.k ? w.Weight(row0 + row, k) : T(0.0f);
      }
      *reinterpret_cast<uint4*>(tile + SwizzledOffset(row, chunk)) =
          *reinterpret_cast<const uint4*>(values);
    }
  }
};

struct ReadPackedF32 {
  PackedWeights<float> w;
  __device__ __forceinline__ float Read(int, int row, int k) const {
    return row < w.n && k < w.k ? w.Weight(row, k) : 0.0f;
  }
  __device__ __forceinline__ bool KContiguous() const { return true; }
};

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_READ_PACKED_CUH_
