// Packed GEMM weights, b [k, n] of a 16-bit type: [n / 16][k / 64][16][64], both filled up with
// zeros. A block's share of n is one contiguous stream along K. fp32: [n][k], rows filled up to 16
// bytes.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_PACKED_LAYOUT_H_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_PACKED_LAYOUT_H_

#include <cstdint>

namespace batch_invariant::cuda {

inline constexpr int kPackedColumns = 16;  // of b
inline constexpr int kPackedK = 64;
inline constexpr std::int64_t kPackedTile = kPackedColumns * kPackedK;

constexpr std::int64_t PackedTilesK(std::int64_t k) { return (k + kPackedK - 1) / kPackedK; }
constexpr std::int64_t PackedTilesN(std::int64_t n) {
  return (n + kPackedColumns - 1) / kPackedColumns;
}
constexpr std::int64_t PackedF32Row(std::int64_t k) { return (k + 3) / 4 * 4; }

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_PACKED_LAYOUT_H_
