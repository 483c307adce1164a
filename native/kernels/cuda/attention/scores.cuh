// Steps 2 and 3 of the contract on score fragments, shared by the tensor-core kernels.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_SCORES_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_SCORES_CUH_

#include "kernels/cuda/attention/tile.cuh"

namespace batch_invariant::cuda {

// One query row as a thread sees it.
struct QueryRow {
  int token = 0;
  int head = 0;  // query head
  int low = 0, high = 0;
};

__device__ __forceinline__ QueryRow RowOf(const CoreArgs& args, const Sequence& s, int kv_head,
                                          int r) {
  QueryRow row;
  if (r >= args.tokens * args.group) return row;
  row.token = r / args.group;
  row.head = kv_head * args.group + r % args.group;
  row.low = LowKey(args, s, row.token);
  row.high = HighKey(args, s, row.token);
  return row;
}

// c of step 2.
__device__ __forceinline__ float ScoreFactor(const CoreArgs& args) {
  return args.general ? 1.0f : args.plain_scale;
}

// Which of the 128 keys from `key` on the rows of a thread may see.
__device__ __forceinline__ KeepBits SeenKeys(const QueryRow (&rows)[2], int key) {
  KeepBits keep;
  const int first = key + 2 * (threadIdx.x % 4);
#pragma unroll
  for (int j = 0; j < 16; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int k = first + 8 * j + e % 2;
      const bool sees = k >= rows[e / 2].low && k < rows[e / 2].high;
      keep.word[j / 8] |= static_cast<std::uint32_t>(sees) << (4 * (j % 8) + e);
    }
  }
  return keep;
}

// The plain form of ScoreFragments without the bits: y of the keys that a row may not see becomes
// -Inf.
__device__ __forceinline__ void HideKeys(const QueryRow (&rows)[2], int key, float (&s)[16][4],
                                         bool (&touched)[2]) {
  const int first = key + 2 * (threadIdx.x % 4);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int low = rows[h].low - first, high = rows[h].high - first;
    touched[h] = rows[h].low < key + kBlockKeys && rows[h].high > max(key, rows[h].low);
#pragma unroll
    for (int j = 0; j < 16; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        if (8 * j + e < low || 8 * j + e >= high) s[j][2 * h + e] = kMinusInf;
      }
    }
  }
}

// Turns the dot products of kTiles n-tiles, keys from `key` on, into y. With `masked` or the
// general form also finds which keys count; otherwise all do and `keep` is left alone.
template <typename T, int kTiles>
__device__ __forceinline__ void ScoreFragments(const CoreArgs& args, int b,
                                               const QueryRow (&rows)[2], int key, bool masked,
                                               float (&s)[kTiles][4], KeepBits& keep) {
  if (!masked && !args.general) return;
  keep = KeepBits{};
  const int first = key + 2 * (threadIdx.x % 4);
  const auto sees = [&](int j, int e) {
    const int k = first + 8 * j + e % 2;
    return k >= rows[e / 2].low && k < rows[e / 2].high;
  };
  const auto set = [&](int j, int e, bool use, float y) {
    s[j][e] = use ? y : kMinusInf;
    keep.word[j / 8] |= static_cast<std::uint32_t>(use) << (4 * (j % 8) + e);
  };
  if (!args.general) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) set(j, e, sees(j, e), s[j][e]);
    }
    return;
  }
  const T* bias[2] = {nullptr, nullptr};
  if (args.bias != nullptr) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      bias[h] = static_cast<const T*>(args.bias) + b * args.bias_batch_stride +
                rows[h].head * args.bias_head_stride + rows[h].token * args.bias_token_stride;
    }
  }
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int k = first + 8 * j + e % 2;
      const bool use = sees(j, e);
      float add = 0.0f;
      if (args.bias != nullptr && use && k < args.bias_keys) add = ToFloat(bias[e / 2][k]);
      set(j, e, use && add != kMinusInf, GeneralScore(args, s[j][e], add));
    }
  }
}

// Maximum of y c of this thread's two rows, over the four threads that share a row.
template <int kTiles>
__device__ __forceinline__ void RowMaximum(const float (&s)[kTiles][4], float c,
                                           float (&maximum)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float m = MaxKeepNan(s[0][2 * h], s[0][2 * h + 1]);
#pragma unroll
    for (int j = 1; j < kTiles; ++j) {
      m = MaxKeepNan(m, MaxKeepNan(s[j][2 * h], s[j][2 * h + 1]));
    }
    m = MaxKeepNan(m, __shfl_xor_sync(0xffffffffu, m, 1));
    m = MaxKeepNan(m, __shfl_xor_sync(0xffffffffu, m, 2));
    maximum[h] = __fmul_rn(m, c);  // c > 0: the order of the y is that of the y c
  }
}

// y to p, before rounding to the element type. Keys that do not count have y = -Inf, and so become
// 0; a row in which none counts is computed with mb = 0. (A row that holds NaN or whose y are all
// -Inf becomes NaN as a whole.)
template <int kTiles>
__device__ __forceinline__ void Probabilities(const float (&row_mb)[2], float c,
                                              const bool (&touched)[2], float (&s)[kTiles][4]) {
  const float mb[2] = {touched[0] ? row_mb[0] : 0.0f, touched[1] ? row_mb[1] : 0.0f};
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) s[j][e] = BlockExp2Scaled(s[j][e], c, mb[e / 2]);
  }
}

// Whether any key of the block counts for this thread's rows.
__device__ __forceinline__ void RowsTouched(const KeepBits& keep, bool (&touched)[2]) {
  const std::uint32_t bits = keep.word[0] | keep.word[1];
  const int shift = threadIdx.x % 32 & ~3;
  touched[0] = (__ballot_sync(0xffffffffu, (bits & 0x33333333u) != 0) >> shift & 0xf) != 0;
  touched[1] = (__ballot_sync(0xffffffffu, (bits & 0xccccccccu) != 0) >> shift & 0xf) != 0;
}

// Zeroes the elements of a value fragment whose key does not count for row `row` of the warp's 16.
// `words` are the KeepBits of the thread that holds this lane's keys of that row.
__device__ __forceinline__ std::uint32_t KeepValues(std::uint32_t pair,
                                                    const std::uint32_t (&words)[2], int tile,
                                                    int row) {
  const std::uint32_t bits = words[tile / 8] >> (4 * (tile % 8) + (row / 8) * 2);
  return pair & ((bits & 1 ? 0x0000ffffu : 0u) | (bits & 2 ? 0xffff0000u : 0u));
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_SCORES_CUH_
