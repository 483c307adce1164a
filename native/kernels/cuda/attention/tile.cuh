// Tiles of keys, values and queries in shared memory for the tensor-core kernels.
//
// A tile has kRows rows of kHead 16-bit elements, in slabs of 64 columns: a slab's rows are 128
// bytes long, and the 16-byte chunk c of row r lies at chunk c ^ (r % 8). The eight rows that one
// ldmatrix reads touch all banks once, and the slabs are what wgmma calls the 128-byte swizzle.
// Elements from the head size up to kHead are zero, which adds exact zeros to every sum.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_TILE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_TILE_CUH_

#include <cstdint>

#include "kernels/cuda/attention/contract.cuh"
#include "kernels/cuda/common/mma.cuh"

namespace batch_invariant::cuda {

template <int kHead, int kRows = kBlockKeys>
struct Tile {
  static_assert(kHead % 64 == 0 && kRows % 8 == 0);
  static constexpr int kChunks = kHead / 8;
  static constexpr int kSlabBytes = kRows * 128;
  static constexpr int kBytes = kHead / 64 * kSlabBytes;

  static __device__ __forceinline__ std::uint32_t Offset(int row, int chunk) {
    return (chunk >> 3) * kSlabBytes + row * 128 + (((chunk ^ row) & 7) << 4);
  }
};

// Starts the copy of keys (or values) [first, first + 128) into `tile`; those outside [low, high)
// become zero without being read. `thread` counts the kThreads that take part. kBut: key `but` is
// left alone; its row of the tile is the caller's.
template <typename T, int kHead, int kThreads, bool kBut = false>
__device__ __forceinline__ void LoadBlock(int thread, std::uint32_t tile, const T* head,
                                          std::int64_t stride, int first, int low, int high,
                                          int head_size, int but = 0) {
  constexpr int kChunks = Tile<kHead>::kChunks;
  constexpr int kRowsAtOnce = kThreads / kChunks;
  const int chunk = thread % kChunks;
  const int row0 = thread / kChunks;
  const bool inside = chunk * 8 < head_size;
  const T* source = head + static_cast<std::int64_t>(first + row0) * stride + chunk * 8;
#pragma unroll 16
  for (int i = 0; i < kBlockKeys / kRowsAtOnce; ++i) {
    const int row = row0 + i * kRowsAtOnce;
    const bool read = inside && first + row >= low && first + row < high;
    if (!kBut || first + row != but) {
      CopyAsync16(tile + Tile<kHead>::Offset(row, chunk), read ? source : head, read ? 16 : 0);
    }
    source += kRowsAtOnce * stride;
  }
}

// Starts the copy of `kRows` query rows from row `first` of a KV head on; rows of padding and
// beyond the last one become zero.
template <typename T, int kHead, int kThreads, int kRows>
__device__ __forceinline__ void LoadQueries(std::uint32_t tile, const CoreArgs& args, int b,
                                            int kv_head, int first) {
  constexpr int kChunks = Tile<kHead>::kChunks;
  const T* base = static_cast<const T*>(args.query.data) + b * args.query.batch_stride;
  const int rows = args.tokens * args.group;
  for (int i = threadIdx.x; i < kRows * kChunks; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks;
    const int r = first + row;
    const bool read = r < rows && chunk * 8 < args.head_size;
    const int token = r / args.group, head = kv_head * args.group + r % args.group;
    const T* source =
        base + head * args.query.head_stride + token * args.query.token_stride + chunk * 8;
    CopyAsync16(tile + Tile<kHead, kRows>::Offset(row, chunk), read ? source : base, read ? 16 : 0);
  }
}

// Address of this lane's row for LoadMatrix4 of the A fragment (16 rows from `row`, step `k`).
template <int kHead, int kRows>
__device__ __forceinline__ std::uint32_t QueryAddress(std::uint32_t tile, int row, int k) {
  const int lane = threadIdx.x % 32;
  return tile + Tile<kHead, kRows>::Offset(row + (lane & 15), 2 * k + (lane >> 4));
}

// The same for the B fragments of 16 keys from `key`: r[0], r[1] of the first 8, r[2], r[3] of the
// next 8.
template <int kHead>
__device__ __forceinline__ std::uint32_t KeyAddress(std::uint32_t tile, int key, int k) {
  const int lane = threadIdx.x % 32;
  return tile +
         Tile<kHead>::Offset(key + (lane & 7) + ((lane >> 4) << 3), 2 * k + ((lane >> 3) & 1));
}

// The same, transposed, for the B fragments of 16 value columns from `column` over 16 keys from
// `key`.
template <int kHead>
__device__ __forceinline__ std::uint32_t ValueAddress(std::uint32_t tile, int key, int column) {
  const int lane = threadIdx.x % 32;
  return tile + Tile<kHead>::Offset(key + (lane & 15), column / 8 + (lane >> 4));
}

template <typename T>
constexpr std::uint32_t kOnes = 0x3f803f80u;
template <>
constexpr std::uint32_t kOnes<__half> = 0x3c003c00u;

// Sets the sign bit of each 16-bit element that is NaN or Inf, and clears that of the others.
template <typename T>
__device__ __forceinline__ std::uint32_t MarkNotFinite(std::uint32_t pair) {
  // One in the last place of the exponent: an exponent of ones overflows into the sign.
  constexpr std::uint32_t kUnit = kOnes<T> == 0x3c003c00u ? 0x04000400u : 0x00800080u;
  return (pair & 0x7fff7fffu) + kUnit;
}

// This thread's share of the search for NaN or Inf in a block of values.
template <typename T, int kHead, int kThreads>
__device__ __forceinline__ bool ShareHasNotFinite(int thread, const unsigned char* tile) {
  std::uint32_t marks = 0;
  for (int i = thread; i < Tile<kHead>::kBytes / 16; i += kThreads) {
    const uint4 v = reinterpret_cast<const uint4*>(tile)[i];
    marks |= MarkNotFinite<T>(v.x) | MarkNotFinite<T>(v.y) | MarkNotFinite<T>(v.z) |
             MarkNotFinite<T>(v.w);
  }
  return (marks & 0x80008000u) != 0;
}

// The 128 keys of a block that one thread's two rows (g and g + 8 of a fragment) may use: bit
// 4 * (j % 8) + e of word j / 8 stands for element e of the n-tile j of its score fragments.
struct KeepBits {
  std::uint32_t word[2] = {0, 0};
};

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_TILE_CUH_
