// What every attention kernel is given: AttentionArgs, checked, with the derived constants.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_CORE_ARGS_H_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_CORE_ARGS_H_

#include <cstdint>

#include "batch_invariant/cuda/attention.h"

namespace batch_invariant::cuda {

inline constexpr int kBlockKeys = 128;  // part of the contract

struct CoreArgs : AttentionArgs {
  int group = 1;          // query heads of one KV head
  float plain_scale = 0;  // scale * log2 e, of the plain form of step 2
  bool general = false;   // the general form
  // The kernel ahead in the stream is LaunchPrepare's, which does not write `last_key`.
  bool follows_prepare = false;
  // LaunchPrepare writes nothing but new tokens: the keys and values before them are there.
  bool past_is_ready = false;

  // Scratch of the split kernels; row g = (b * kv_heads + kv_head) * tokens * group + r.
  float* partial_acc = nullptr;    // [row g, block, head_size]: ab of one block, or a prefix's acc
  float2* partial_ml = nullptr;    // [row g, block]: (mb, lb) or (m, l); lb = -1: an untouched row
  std::int32_t* prefix = nullptr;  // [tile]: blocks merged by the first thread block of that tile
  // [tile]: blocks whose part is in the scratch; 0 at first. The thread block that brings the last
  // one merges the tile. Null: the merge kernel does.
  std::int32_t* arrived = nullptr;
  int max_blocks = 0;
};

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_CORE_ARGS_H_
