// Attention for many query rows: one thread block walks the key blocks of 128 rows of one KV head.
//
// Contract: attention.tc16 (batch_invariant/cuda/attention.h). 8 warps of 16 rows; row r of a KV
// head is token r / group of query head r % group, so that the heads of a group share each key
// block. A warp holds its scores, the state and the accumulator in registers; keys and values come
// through kStages tile pairs in shared memory. kHead (head size rounded up to 64), kStages and the
// grid are free: they set neither the order of any sum nor any rounding.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WALK_KERNEL_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WALK_KERNEL_CUH_

#include "kernels/cuda/attention/scores.cuh"

namespace batch_invariant::cuda {

inline constexpr int kWalkRows = 128;
inline constexpr int kWalkThreads = 256;

template <int kHead, int kStages>
constexpr int WalkSharedBytes() {
  return (1 + 2 * kStages) * Tile<kHead>::kBytes;
}

// acc = merge(acc, P V) for kHead columns; `rowwise`: values hold NaN or Inf that some rows must
// not see, so each row multiplies with its own masked copy (same products, same order). The sums of
// a block live for kColumns at a time; more might not fit the registers.
template <typename T, int kHead, int kColumns>
__device__ __forceinline__ void MultiplyValues(std::uint32_t values, const std::uint32_t (&p)[8][4],
                                               const MergeFactors (&factors)[2],
                                               const bool (&touched)[2], bool rowwise,
                                               const KeepBits& keep, float (&acc)[kHead / 8][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int c = 0; c < kHead / kColumns; ++c) {
    float block[kColumns / 8][4] = {};
    if (!rowwise) {
#pragma unroll
      for (int k = 0; k < 8; ++k) {
#pragma unroll
        for (int n = 0; n < kColumns / 16; ++n) {
          std::uint32_t v[4];
          LoadMatrix4Transposed(v, ValueAddress<kHead>(values, 16 * k, c * kColumns + 16 * n));
          MmaStep<T>(block[2 * n], p[k], v[0], v[1]);
          MmaStep<T>(block[2 * n + 1], p[k], v[2], v[3]);
        }
      }
    } else {
#pragma unroll 1
      for (int row = 0; row < 16; ++row) {
        const int holder = row % 8 * 4 + lane % 4;
        const std::uint32_t words[2] = {__shfl_sync(0xffffffffu, keep.word[0], holder),
                                        __shfl_sync(0xffffffffu, keep.word[1], holder)};
        float own[kColumns / 8][4] = {};
#pragma unroll
        for (int k = 0; k < 8; ++k) {
#pragma unroll
          for (int n = 0; n < kColumns / 16; ++n) {
            std::uint32_t v[4];
            LoadMatrix4Transposed(v, ValueAddress<kHead>(values, 16 * k, c * kColumns + 16 * n));
#pragma unroll
            for (int i = 0; i < 4; ++i) v[i] = KeepValues(v[i], words, 2 * k + i % 2, row);
            MmaStep<T>(own[2 * n], p[k], v[0], v[1]);
            MmaStep<T>(own[2 * n + 1], p[k], v[2], v[3]);
          }
        }
        if (lane / 4 == row % 8) {
#pragma unroll
          for (int n = 0; n < kColumns / 8; ++n) {
            if (row < 8) {
              block[n][0] = own[n][0];
              block[n][1] = own[n][1];
            } else {
              block[n][2] = own[n][2];
              block[n][3] = own[n][3];
            }
          }
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float& a = acc[c * (kColumns / 8) + n][e];
        const float merged = MergeElement(a, block[n][e], factors[e / 2]);
        a = touched[e / 2] ? merged : a;
      }
    }
  }
}

// Writes the rows `first` and `first + 8` of a KV head that this thread has fragments of.
template <typename T, int kHead>
__device__ __forceinline__ void StoreRows(const CoreArgs& args, int b, const QueryRow (&rows)[2],
                                          int first, const RowState (&state)[2],
                                          const float (&acc)[kHead / 8][4]) {
  T* output = static_cast<T*>(args.output) + b * args.output_strides.batch_stride;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (first + 8 * h >= args.tokens * args.group) continue;
    const bool sees_keys = rows[h].high > rows[h].low;
    const FinishFactors finish = Finish<T>(args, state[h], rows[h].head);
    T* row = output + rows[h].head * args.output_strides.head_stride +
             rows[h].token * args.output_strides.token_stride;
#pragma unroll
    for (int n = 0; n < kHead / 8; ++n) {
      const int column = 8 * n + 2 * (threadIdx.x % 4);
      if (column < args.head_size) {
        const std::uint32_t pair = PackPair<T>(FinishElement(acc[n][2 * h], finish),
                                               FinishElement(acc[n][2 * h + 1], finish));
        *reinterpret_cast<std::uint32_t*>(row + column) = sees_keys ? pair : 0u;
      }
    }
  }
}

template <typename T, int kHead, int kStages>
__global__ void __launch_bounds__(kWalkThreads, 1)
    WalkKernel(const __grid_constant__ CoreArgs args) {
  extern __shared__ __align__(128) unsigned char shared[];
  const std::uint32_t queries = SharedAddress(shared);
  const auto keys = [&](int stage) { return queries + (1 + 2 * stage) * Tile<kHead>::kBytes; };
  const auto values = [&](int stage) { return keys(stage) + Tile<kHead>::kBytes; };

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int b = blockIdx.z, kv_head = blockIdx.y;
  const int first_row = (gridDim.x - 1 - blockIdx.x) * kWalkRows;  // the longest rows first
  const Sequence sequence = SequenceOf(args, b);
  const RowTile tile = TileOf(args, sequence, first_row, kWalkRows);
  const BlockRange blocks = BlocksOf(tile.low, tile.high);
  const bool one_token = tile.first_token == tile.last_token;

  QueryRow rows[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    rows[h] = RowOf(args, sequence, kv_head, first_row + 16 * warp + lane / 4 + 8 * h);
  }
  RowState state[2];
  float acc[kHead / 8][4] = {};

  const T* key_head = static_cast<const T*>(args.key.data) + b * args.key.batch_stride +
                      kv_head * args.key.head_stride;
  const T* value_head = static_cast<const T*>(args.value.data) + b * args.value.batch_stride +
                        kv_head * args.value.head_stride;
  const auto load_keys = [&](int block, int stage) {
    LoadBlock<T, kHead, kWalkThreads>(threadIdx.x, keys(stage), key_head, args.key.token_stride,
                                      block * kBlockKeys, tile.low, tile.high, args.head_size);
  };
  const auto load_values = [&](int block, int stage) {
    LoadBlock<T, kHead, kWalkThreads>(threadIdx.x, values(stage), value_head,
                                      args.value.token_stride, block * kBlockKeys, tile.low,
                                      tile.high, args.head_size);
  };

  if (blocks.first < blocks.last) {
    LoadQueries<T, kHead, kWalkThreads, kWalkRows>(queries, args, b, kv_head, first_row);
    load_keys(blocks.first, 0);
    CopyAsyncCommit();
    if constexpr (kStages == 2) {
      load_values(blocks.first, 0);
      CopyAsyncCommit();
    }
  }

#pragma unroll 1
  for (int block = blocks.first; block < blocks.last; ++block) {
    const int stage = kStages == 2 ? (block - blocks.first) % 2 : 0;
    CopyAsyncWait<0>();
    __syncthreads();
    if constexpr (kStages == 2) {
      if (block + 1 < blocks.last) {
        load_keys(block + 1, stage ^ 1);
        load_values(block + 1, stage ^ 1);
      }
    } else {
      load_values(block, 0);
    }
    CopyAsyncCommit();

    float s[16][4] = {};
#pragma unroll
    for (int k = 0; k < kHead / 16; ++k) {
      std::uint32_t q[4];
      LoadMatrix4(q, QueryAddress<kHead, kWalkRows>(queries, 16 * warp, k));
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        std::uint32_t key[4];
        LoadMatrix4(key, KeyAddress<kHead>(keys(stage), 16 * n, k));
        MmaStep<T>(s[2 * n], q, key[0], key[1]);
        MmaStep<T>(s[2 * n + 1], q, key[2], key[3]);
      }
    }

    const int first_key = block * kBlockKeys;
    const bool masked =
        args.bias != nullptr || first_key < tile.all_low || first_key + kBlockKeys > tile.all_high;
    KeepBits keep;
    bool touched[2] = {true, true};
    ScoreFragments<T, 16>(args, b, rows, first_key, masked, s, keep);
    if (masked) RowsTouched(keep, touched);
    float mb[2];
    RowMaximum(s, ScoreFactor(args), mb);
    mb[0] = rintf(mb[0]);
    mb[1] = rintf(mb[1]);
    Probabilities(mb, ScoreFactor(args), touched, s);

    std::uint32_t p[8][4];
    float sums[4] = {};
#pragma unroll
    for (int k = 0; k < 8; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&pair)[4] = s[2 * k + i / 2];
        p[k][i] = PackPair<T>(pair[2 * (i % 2)], pair[2 * (i % 2) + 1]);
      }
      MmaStep<T>(sums, p[k], kOnes<T>, kOnes<T>);
    }
    MergeFactors factors[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      RowState merged = state[h];
      factors[h] = Merge(merged, mb[h], sums[2 * h]);
      if (touched[h]) state[h] = merged;
    }

    if constexpr (kStages == 1) {
      CopyAsyncWait<0>();
      __syncthreads();  // the values are here, and no warp reads the keys any more
      if (block + 1 < blocks.last) load_keys(block + 1, 0);
      CopyAsyncCommit();
    }
    bool rowwise = false;
    if (masked && (args.bias != nullptr || !one_token)) {
      rowwise = __syncthreads_or(ShareHasNotFinite<T, kHead, kWalkThreads>(
          threadIdx.x, shared + (values(stage) - queries)));
    }
    MultiplyValues<T, kHead, kHead == 256 ? 32 : 64>(values(stage), p, factors, touched, rowwise,
                                                     keep, acc);
  }

  StoreRows<T, kHead>(args, b, rows, first_row + 16 * warp + lane / 4, state, acc);
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_WALK_KERNEL_CUH_
