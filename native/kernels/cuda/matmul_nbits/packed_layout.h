// The packed weights of MatMulNBits.
//
// A record holds 16 rows of w by 128 of K. The two records of 32 rows lie together and follow one
// another along K, so a block streams contiguous bytes. Rows are filled up to a multiple of 32, K
// to one of 128, with scale 0. Weights of 2 bits are stored in 4.
//   codes    for each 64 of K ("atom") and each of its 16-byte groups: 32 lanes x 4 words. The
//   words of
//            a lane are its A fragments of mma m16n8k16 (common/mma.cuh) for ascending steps of 16:
//            4 bits: one word a step; nibble i is the low and nibble i + 4 the high half of a[i]
//            8 bits: two words a step; byte 2j + h of word i is half h of a[2i + j]
//   scales   for each of max(1, 128 / block_size) parts of the 128: rows 0, 8, 1, 9, ... 7, 15
//   zeros    likewise, only with zero points given; integers are stored with the offset that
//            dequantisation subtracts (ZeroOffset)
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_PACKED_LAYOUT_H_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_PACKED_LAYOUT_H_

#include <cstdint>

#include "batch_invariant/cuda/matmul_nbits.h"

namespace batch_invariant::cuda {

inline constexpr int kRecordRows = 16;
inline constexpr int kRecordK = 128;

struct PackedLayout {
  int bits;        // stored: 4 or 8
  int parts;       // scales a row and record
  int part_shift;  // log2 of the K that one scale covers inside a record
  int element;     // bytes of a scale
  bool has_zeros;
  int records_k;  // records along K
  int records_n;  // even

  __host__ __device__ int code_bytes() const { return kRecordRows * kRecordK * bits / 8; }
  __host__ __device__ int scale_bytes() const { return parts * kRecordRows * element; }
  __host__ __device__ int record_bytes() const {
    return code_bytes() + scale_bytes() * (has_zeros ? 2 : 1);
  }
  // Position of the record of 16 rows `n` and 128 of K `k`, in records.
  __host__ __device__ std::int64_t Position(int n, int k) const {
    return (std::int64_t{n / 2} * records_k + k) * 2 + n % 2;
  }
};

inline PackedLayout LayoutOf(const MatMulNBitsPlan& plan) {
  PackedLayout layout;
  layout.bits = plan.bits == 8 ? 8 : 4;
  layout.part_shift = 0;
  while ((1 << layout.part_shift) < plan.block_size && (1 << layout.part_shift) < kRecordK) {
    ++layout.part_shift;
  }
  layout.parts = kRecordK >> layout.part_shift;
  layout.element = static_cast<int>(ElementSize(plan.type));
  layout.has_zeros = plan.zero_points != ZeroPoints::kDefault;
  layout.records_k = static_cast<int>((plan.k + kRecordK - 1) / kRecordK);
  layout.records_n = static_cast<int>((plan.n + 2 * kRecordRows - 1) / (2 * kRecordRows)) * 2;
  return layout;
}

// What is added to a stored integer zero point: dequantisation reads a code q as the number
// offset + q by putting q into the mantissa of offset.
constexpr float ZeroOffset(ElementType type, int stored_bits) {
  if (type == ElementType::kFloat16) return 1024.0f;
  if (type == ElementType::kBFloat16 && stored_bits == 4) return 128.0f;
  return 0.0f;
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_PACKED_LAYOUT_H_
