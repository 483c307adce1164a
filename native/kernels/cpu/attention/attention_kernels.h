// What an instruction set provides for attention: plain data in, plain data out. attention.cc cuts
// the work into tiles, threads and blocks of keys.
#ifndef BATCH_INVARIANT_KERNELS_CPU_ATTENTION_ATTENTION_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CPU_ATTENTION_ATTENTION_KERNELS_H_

#include "batch_invariant/cpu/attention.h"
#include "kernels/cpu/dispatch/kernel_table.h"

namespace batch_invariant::cpu {

// One query of one head. Keys [first_key, end_key) take part, less those that `mask` excludes.
struct AttentionRow {
  const float* query;
  int64_t first_key;
  int64_t end_key;
  const float* bias;  // of key 0; null: none
  const bool* mask;   // of key 0; null: none
  float* scores;      // of key 0; null: not wanted
};

// What a block of keys, or all blocks so far, gave to each row of a tile. sum is 0 as long as no
// key contributed.
struct AttentionState {
  float* max;  // [rows]
  float* sum;  // [rows]
  float* acc;  // [rows, value_width]
};

// Queries that share one kv head.
struct AttentionTile {
  const AttentionRow* rows;
  int64_t row_count;
  const float* keys;  // of key 0
  const float* values;
  const uint16_t* half_keys;  // fp16, instead of `keys` and `values` where not null
  const uint16_t* half_values;
  int64_t key_stride;
  int64_t value_stride;
  int64_t head_size;
  int64_t value_size;
  int64_t value_width;  // value_size rounded up to sixteen
  float scale;
  float softcap;
  ScoreOutput score_output;
  // Scratch of the calling thread.
  float* packed_keys;    // [128, head_size]
  float* packed_values;  // [128, value_width]
  float* block_acc;      // [kMaxAttentionRows, value_width]
};

// Rows that one pass over a block keeps in registers, at most, on any instruction set.
inline constexpr int kMaxAttentionRows = 8;

struct AttentionKernels {
  InstructionSet instruction_set;
  // Keys [128 * block, 128 * block + 128): merges into `state`, the blocks before it.
  void (*merge_block)(const AttentionTile& tile, int64_t block, const AttentionState& state);
  // The same block on its own, for merging later.
  void (*compute_block)(const AttentionTile& tile, int64_t block, const AttentionState& result);
  // Merges a computed block into the blocks before it.
  void (*merge_state)(int64_t rows, int64_t value_width, const AttentionState& block,
                      const AttentionState& state);
  // One row at the end: the sink (null: none), y = acc / sum, and the softmax of `scores` over
  // `keys` (null: not wanted).
  void (*finish_row)(const AttentionState& state, int64_t row, const AttentionTile& tile,
                     const float* sink, float* y, float* scores, int64_t keys);
};

std::span<const AttentionKernels* const> AttentionKernelTable();

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_ATTENTION_ATTENTION_KERNELS_H_
