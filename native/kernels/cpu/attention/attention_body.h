// Attention over one block of 128 keys at a time, contract attention.f32 (formulas:
// batch_invariant/cpu/attention.h).
//
// For each row (one query of one head) and block:
//   score[j]  = fma chain over the head, ascending, from +0; times scale; softcap; plus bias
//   mb        = largest score;  p[j] = exp(score[j] - mb);  sb = p[0] + p[1] + ..., ascending
//   accb[d]   = fma chain over the keys, ascending, from +0, of p[j] * v[j][d]
//   m' = max(m, mb); a = exp(m - m'); b = exp(mb - m')
//   acc = fma(acc, a, accb * b);  sum = fma(sum, a, sb * b)
// Layouts: keys are transposed into panels of sixteen, element (d, lane) at d * 16 + lane, so that
// lanes are keys and a score stays in one lane; in P.V lanes are the elements of the value vector.
// Free: how many rows share a pass, whether keys and values are packed, and in which order rows go.
// A key that takes no part is never multiplied: runs of keys that all rows of a pass see go
// together, the rest row by row, so that what it holds, NaN included, reaches nobody.
#ifndef BATCH_INVARIANT_KERNELS_CPU_ATTENTION_ATTENTION_BODY_H_
#define BATCH_INVARIANT_KERNELS_CPU_ATTENTION_ATTENTION_BODY_H_

#include "kernels/cpu/attention/attention_kernels.h"
#include "kernels/cpu/reduce/tree_body.h"
#include "kernels/cpu/simd/math.h"

namespace batch_invariant::cpu::BI_SIMD {

inline constexpr int kBlockKeys = 128;
inline constexpr int kRowsInRegisters = kVectorRegisters >= 32 ? 8 : kVectorRegisters >= 8 ? 6 : 4;
static_assert(kRowsInRegisters <= kMaxAttentionRows);

// Panels of sixteen columns beside each other, so that enough independent chains are under way.
constexpr int PanelsFor(int rows) {
  if (kVectorRegisters < 8) return 1;
  if (kVectorRegisters < 32) return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
  return rows <= 6 ? 4 : 2;
}

BI_INLINE float NegativeInfinity() { return -__builtin_inff(); }
BI_INLINE int64_t Smaller(int64_t a, int64_t b) { return a < b ? a : b; }
BI_INLINE int64_t Larger(int64_t a, int64_t b) { return a > b ? a : b; }
BI_INLINE int LaneCount(int64_t lanes) {
  return lanes <= 0 ? 0 : lanes >= 16 ? 16 : static_cast<int>(lanes);
}

// acc[r][p] = fma(a[r][k], b[k * b_stride + p * panel_stride + lane], acc[r][p]) for k ascending.
template <int kRows, int kPanels>
BI_INLINE void MultiplyTile(const float* const* a, int64_t begin, int64_t end, const float* b,
                            int64_t b_stride, int64_t panel_stride, F32x16 (&acc)[kRows][kPanels]) {
  const float* row[kRows];
  BI_UNROLL
  for (int r = 0; r < kRows; ++r) row[r] = a[r];
  for (int64_t k = begin; k < end; ++k) {
    F32x16 column[kPanels];
    BI_UNROLL
    for (int p = 0; p < kPanels; ++p) column[p] = Load(b + k * b_stride + p * panel_stride);
    BI_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const F32x16 factor = Splat(row[r][k]);
      BI_UNROLL
      for (int p = 0; p < kPanels; ++p) acc[r][p] = Fma(factor, column[p], acc[r][p]);
    }
  }
}

// Elements of a cache as fp32, whatever it holds.
BI_INLINE F32x16 LoadCache(const float* p) { return Load(p); }
BI_INLINE F32x16 LoadCache(const uint16_t* p) { return LoadF16(p); }
BI_INLINE F32x16 LoadCachePartial(const float* p, int count) { return LoadPartial(p, count); }
BI_INLINE F32x16 LoadCachePartial(const uint16_t* p, int count) {
  return LoadF16Partial(p, count);
}

// Sixteen keys as columns: packed[d * 16 + lane]; lanes from `count` on are zero and not read.
template <typename T>
BI_INLINE void PackKeys(const T* keys, int64_t stride, int count, int64_t head_size,
                        float* packed) {
  for (int64_t d = 0; d < head_size; d += 16) {
    const int columns = LaneCount(head_size - d);
    F32x16 rows[16];
    if (columns == 16 && count == 16) {
      BI_UNROLL
      for (int j = 0; j < 16; ++j) rows[j] = LoadCache(keys + j * stride + d);
    } else {
      BI_UNROLL
      for (int j = 0; j < 16; ++j) {
        rows[j] = j < count ? LoadCachePartial(keys + j * stride + d, columns) : ZeroF32();
      }
    }
    Transpose(rows);
    BI_UNROLL
    for (int j = 0; j < 16; ++j) {
      if (j < columns) Store(packed + (d + j) * 16, rows[j]);
    }
  }
}

// The keys of one panel: sixteen, or those before `end`, from `key` on.
BI_INLINE void PackPanel(const AttentionTile& tile, int64_t key, int64_t end, float* packed) {
  const int count = LaneCount(end - key);
  if (tile.half_keys != nullptr) {
    PackKeys(tile.half_keys + key * tile.key_stride, tile.key_stride, count, tile.head_size,
             packed);
  } else {
    PackKeys(tile.keys + key * tile.key_stride, tile.key_stride, count, tile.head_size, packed);
  }
}

// Values of keys behind each other, as fp32, filled up to the width.
template <typename T>
BI_INLINE void PackValues(const T* values, int64_t stride, int64_t size, int64_t keys,
                          int64_t width, float* packed) {
  for (int64_t key = 0; key < keys; ++key, values += stride, packed += width) {
    int64_t d = 0;
    for (; d + 16 <= size; d += 16) Store(packed + d, LoadCache(values + d));
    if (d < size) Store(packed + d, LoadCachePartial(values + d, static_cast<int>(size - d)));
  }
}

// Decoding reads every key and value once, so memory sets the pace: fetch the values of these
// sixteen keys, which this block needs next, and the sixteen keys after them.
BI_INLINE void PrefetchRows(const AttentionTile& tile, int64_t key) {
  for (int64_t j = key; j < key + 16; ++j) {
    for (int64_t d = 0; d < tile.value_size; d += 16) {
      Prefetch(tile.values + j * tile.value_stride + d);
    }
    for (int64_t d = 0; d < tile.head_size; d += 16) {
      Prefetch(tile.keys + (j + 16) * tile.key_stride + d);
    }
  }
}

// A block of keys as one pass sees it; key positions are relative to the block's first key.
struct BlockView {
  int64_t first_key;    // absolute
  int64_t begin, end;   // keys that any row of the tile sees
  const float* keys;    // packed panels of the whole block; null: pack while multiplying
  const float* values;  // of the block's first key
  int64_t value_stride;
};

// The scores of keys in one panel of sixteen, and what happens to them on the way to the softmax.
BI_INLINE F32x16 ScorePanel(const AttentionTile& tile, const AttentionRow& row, F32x16 dot,
                            int64_t key, uint16_t* taking_part) {
  const int before = LaneCount(row.first_key - key);
  const int upto = LaneCount(row.end_key - key);
  const bool plain = row.bias == nullptr && row.mask == nullptr && row.scores == nullptr;
  if (plain && tile.softcap == 0.0f && before == 0 && upto == 16) {
    *taking_part = 0xffff;
    return Mul(dot, Splat(tile.scale));
  }
  F32x16 score = Mul(dot, Splat(tile.scale));
  const F32x16 scaled = score;
  if (tile.softcap != 0.0f) {
    const F32x16 cap = Splat(tile.softcap);
    score = Mul(cap, Tanh(Div(score, cap)));
  }
  const F32x16 capped = score;
  if (row.bias != nullptr && upto > 0) {
    score = Add(score, upto == 16 ? Load(row.bias + key) : LoadPartial(row.bias + key, upto));
  }
  uint32_t lanes = ((1u << upto) - 1u) & ~((1u << before) - 1u);
  const F32x16 excluded = Splat(NegativeInfinity());
  if (upto < 16) score = Select(FirstLanes(upto), score, excluded);
  if (before > 0) score = Select(FirstLanes(before), excluded, score);
  if (row.mask != nullptr) {
    uint8_t bytes[16] = {};
    for (int i = 0; i < upto; ++i) {
      bytes[i] = row.mask[key + i] ? 1 : 0;
      if (bytes[i] == 0) lanes &= ~(1u << i);
    }
    score = Select(Greater(LoadU8(bytes), ZeroI32()), score, excluded);
  }
  *taking_part = static_cast<uint16_t>(lanes);
  if (row.scores != nullptr && upto > 0) {
    const F32x16 wanted = tile.score_output == ScoreOutput::kScaled   ? scaled
                          : tile.score_output == ScoreOutput::kCapped ? capped
                                                                      : score;
    float values[16];
    Store(values, Canonical(wanted));
    for (int i = before; i < upto; ++i) {
      if ((lanes >> i & 1u) != 0) row.scores[key + i] = values[i];
    }
  }
  return score;
}

// Merges block results of up to eight rows into their running state.
BI_INLINE void MergeRows(int64_t rows, int64_t width, const float* block_max,
                         const float* block_sum, const float* block_acc, float* max, float* sum,
                         float* acc) {
  float exponents[16] = {};
  for (int64_t r = 0; r < rows; ++r) {
    const float next = max[r] > block_max[r] ? max[r] : block_max[r];
    exponents[r] = max[r] - next;
    exponents[r + 8] = block_max[r] - next;
  }
  float factors[16];
  Store(factors, Exp(Load(exponents)));
  for (int64_t r = 0; r < rows; ++r) {
    if (block_sum[r] == 0.0f) continue;  // no key of this block takes part
    const F32x16 a = Splat(factors[r]), b = Splat(factors[r + 8]);
    for (int64_t d = 0; d < width; d += 16) {
      float* p = acc + r * width + d;
      Store(p, Fma(Load(p), a, Mul(Load(block_acc + r * width + d), b)));
    }
    float next_sum[16];
    Store(next_sum, Fma(Splat(sum[r]), a, Mul(Splat(block_sum[r]), b)));
    sum[r] = next_sum[0];
    max[r] = max[r] > block_max[r] ? max[r] : block_max[r];
  }
}

// acc[r][...] += p[r][begin..end) . V for kRows rows over all value columns.
template <int kRows>
BI_INLINE void AccumulateValues(const float* const* p, int64_t begin, int64_t end,
                                const BlockView& block, int64_t width, float* acc) {
  constexpr int kPanels = PanelsFor(kRows);
  int64_t d = 0;
  for (; d + 16 * kPanels <= width; d += 16 * kPanels) {
    F32x16 tile[kRows][kPanels];
    BI_UNROLL
    for (int r = 0; r < kRows; ++r) {
      BI_UNROLL
      for (int i = 0; i < kPanels; ++i) tile[r][i] = Load(acc + r * width + d + 16 * i);
    }
    MultiplyTile<kRows, kPanels>(p, begin, end, block.values + d, block.value_stride, 16, tile);
    BI_UNROLL
    for (int r = 0; r < kRows; ++r) {
      BI_UNROLL
      for (int i = 0; i < kPanels; ++i) Store(acc + r * width + d + 16 * i, tile[r][i]);
    }
  }
  for (; d < width; d += 16) {
    F32x16 tile[kRows][1];
    BI_UNROLL
    for (int r = 0; r < kRows; ++r) tile[r][0] = Load(acc + r * width + d);
    MultiplyTile<kRows, 1>(p, begin, end, block.values + d, block.value_stride, 16, tile);
    BI_UNROLL
    for (int r = 0; r < kRows; ++r) Store(acc + r * width + d, tile[r][0]);
  }
}

template <int kRows>
static void AttendRows(const AttentionTile& tile, const AttentionRow* rows, const BlockView& block,
                       float* block_max, float* block_sum, float* block_acc) {
  const int64_t width = tile.value_width;
  int64_t begin = kBlockKeys, end = 0;
  for (int r = 0; r < kRows; ++r) {
    begin = Smaller(begin, Larger(rows[r].first_key - block.first_key, 0));
    end = Larger(end, Smaller(rows[r].end_key - block.first_key, block.end));
  }
  for (int r = 0; r < kRows; ++r) {
    block_max[r] = NegativeInfinity();
    block_sum[r] = 0.0f;
  }
  if (begin >= end) return;
  const int first_panel = static_cast<int>(begin / 16);
  const int end_panel = static_cast<int>((end + 15) / 16);

  // Scores.
  alignas(64) float p[kRows][kBlockKeys];
  const float* queries[kRows];
  for (int r = 0; r < kRows; ++r) queries[r] = rows[r].query;
  constexpr int kPanels = PanelsFor(kRows);
  const int64_t panel_size = 16 * tile.head_size;
  for (int panel = first_panel; panel < end_panel;) {
    const int panels = end_panel - panel >= kPanels ? kPanels : 1;
    const float* packed = block.keys + panel * panel_size;
    if (block.keys == nullptr) {
      for (int i = 0; i < panels; ++i) {
        const int64_t key = (panel + i) * 16;
        PackPanel(tile, block.first_key + key, block.first_key + block.end,
                  tile.packed_keys + i * panel_size);
        if (tile.half_keys == nullptr) PrefetchRows(tile, block.first_key + key);
      }
      packed = tile.packed_keys;
    }
    if (panels == kPanels) {
      F32x16 dots[kRows][kPanels];
      BI_UNROLL
      for (int r = 0; r < kRows; ++r) {
        BI_UNROLL
        for (int i = 0; i < kPanels; ++i) dots[r][i] = ZeroF32();
      }
      MultiplyTile<kRows, kPanels>(queries, 0, tile.head_size, packed, 16, panel_size, dots);
      BI_UNROLL
      for (int r = 0; r < kRows; ++r) {
        BI_UNROLL
        for (int i = 0; i < kPanels; ++i) Store(&p[r][(panel + i) * 16], dots[r][i]);
      }
    } else {
      F32x16 dots[kRows][1];
      BI_UNROLL
      for (int r = 0; r < kRows; ++r) dots[r][0] = ZeroF32();
      MultiplyTile<kRows, 1>(queries, 0, tile.head_size, packed, 16, panel_size, dots);
      BI_UNROLL
      for (int r = 0; r < kRows; ++r) Store(&p[r][panel * 16], dots[r][0]);
    }
    panel += panels;
  }

  // Softmax of the block; bit j of seen[r] says that key j takes part in row r.
  uint64_t seen[kRows][2] = {};
  bool gives_nothing[kRows];
  for (int r = 0; r < kRows; ++r) {
    F32x16 largest = Splat(NegativeInfinity());
    for (int panel = first_panel; panel < end_panel; ++panel) {
      uint16_t lanes;
      const F32x16 score =
          ScorePanel(tile, rows[r], Load(&p[r][panel * 16]), block.first_key + panel * 16, &lanes);
      Store(&p[r][panel * 16], score);
      largest = Max(score, largest);
      seen[r][panel / 4] |= static_cast<uint64_t>(lanes) << (panel % 4 * 16);
    }
    const float max = ReduceMax(largest);
    block_max[r] = max;
    gives_nothing[r] = max == NegativeInfinity();
    for (int panel = first_panel; panel < end_panel; ++panel) {
      const F32x16 score = Load(&p[r][panel * 16]);
      // `largest` passes over NaN.
      if (gives_nothing[r] && Any(IsNan(score))) gives_nothing[r] = false;
      Store(&p[r][panel * 16], ExpOfNonPositive(Sub(score, Splat(max))));
    }
  }
  float sum[kRows] = {};
  for (int64_t j = 16 * first_panel; j < 16 * end_panel; ++j) {
    BI_UNROLL
    for (int r = 0; r < kRows; ++r) sum[r] += p[r][j];
  }
  for (int r = 0; r < kRows; ++r) block_sum[r] = gives_nothing[r] ? 0.0f : sum[r];

  // P.V over runs of keys: those that all rows see together, others row by row.
  for (int64_t i = 0; i < kRows * width; i += 16) Store(block_acc + i, ZeroF32());
  uint64_t all[2] = {~uint64_t{0}, ~uint64_t{0}}, any[2] = {};
  for (int r = 0; r < kRows; ++r) {
    for (int w = 0; w < 2; ++w) {
      all[w] &= seen[r][w];
      any[w] |= seen[r][w];
    }
  }
  const auto bit = [](const uint64_t* words, int64_t j) {
    return (words[j / 64] >> (j % 64) & 1u) != 0;
  };
  const float* probabilities[kRows];
  for (int r = 0; r < kRows; ++r) probabilities[r] = p[r];
  for (int64_t j = begin; j < end;) {
    const bool together = bit(all, j), some = bit(any, j);
    int64_t stop = j + 1;
    while (stop < end && bit(all, stop) == together && bit(any, stop) == some) ++stop;
    if (together) {
      AccumulateValues<kRows>(probabilities, j, stop, block, width, block_acc);
    } else if (some) {
      for (int r = 0; r < kRows; ++r) {
        for (int64_t k = j; k < stop;) {
          const bool mine = bit(seen[r], k);
          int64_t run = k + 1;
          while (run < stop && bit(seen[r], run) == mine) ++run;
          if (mine) {
            AccumulateValues<1>(&probabilities[r], k, run, block, width, block_acc + r * width);
          }
          k = run;
        }
      }
    }
    j = stop;
  }
}

BI_INLINE void AttendSomeRows(int64_t count, const AttentionTile& tile, const AttentionRow* rows,
                              const BlockView& block, const AttentionState& result) {
  float* max = result.max;
  float* sum = result.sum;
  float* acc = result.acc;
  switch (count) {
    case 1:
      return AttendRows<1>(tile, rows, block, max, sum, acc);
    case 2:
      return AttendRows<2>(tile, rows, block, max, sum, acc);
    case 3:
      return AttendRows<3>(tile, rows, block, max, sum, acc);
    case 4:
      return AttendRows<4>(tile, rows, block, max, sum, acc);
    default:
      break;
  }
  if constexpr (kRowsInRegisters >= 6) {
    if (count == 5) return AttendRows<5>(tile, rows, block, max, sum, acc);
    if (count == 6) return AttendRows<6>(tile, rows, block, max, sum, acc);
  }
  if constexpr (kRowsInRegisters >= 8) {
    if (count == 7) return AttendRows<7>(tile, rows, block, max, sum, acc);
    if (count == 8) return AttendRows<8>(tile, rows, block, max, sum, acc);
  }
}

// kMerge: into the state of the blocks before; otherwise the result of this block alone.
template <bool kMerge>
static void AttendBlock(const AttentionTile& tile, int64_t block_index, const AttentionState& out) {
  const int64_t width = tile.value_width;
  BlockView block;
  block.first_key = block_index * kBlockKeys;
  block.begin = kBlockKeys;
  block.end = 0;
  for (int64_t r = 0; r < tile.row_count; ++r) {
    const int64_t first = Larger(tile.rows[r].first_key - block.first_key, 0);
    const int64_t end = Smaller(tile.rows[r].end_key - block.first_key, kBlockKeys);
    if (first >= end) continue;
    block.begin = Smaller(block.begin, first);
    block.end = Larger(block.end, end);
  }
  if (block.begin >= block.end) {
    if constexpr (!kMerge) {
      for (int64_t r = 0; r < tile.row_count; ++r) out.sum[r] = 0.0f;
    }
    return;
  }

  // With a single pass over the rows nothing is used twice: keys are packed on the fly.
  const int64_t passes = (tile.row_count + kRowsInRegisters - 1) / kRowsInRegisters;
  block.keys = nullptr;
  if (passes > 1) {
    for (int64_t key = block.begin / 16 * 16; key < block.end; key += 16) {
      PackPanel(tile, block.first_key + key, block.first_key + block.end,
                tile.packed_keys + key * tile.head_size);
    }
    block.keys = tile.packed_keys;
  }
  block.values = tile.packed_values;
  block.value_stride = width;
  const int64_t offset = (block.first_key + block.begin) * tile.value_stride;
  const int64_t keys = block.end - block.begin;
  float* packed = tile.packed_values + block.begin * width;
  if (tile.half_values != nullptr) {
    PackValues(tile.half_values + offset, tile.value_stride, tile.value_size, keys, width, packed);
  } else if (width != tile.value_size) {
    PackValues(tile.values + offset, tile.value_stride, tile.value_size, keys, width, packed);
  } else {
    block.values = tile.values + block.first_key * tile.value_stride;
    block.value_stride = tile.value_stride;
  }

  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t begin = tile.row_count * pass / passes;
    const int64_t count = tile.row_count * (pass + 1) / passes - begin;
    if constexpr (kMerge) {
      float max[kMaxAttentionRows], sum[kMaxAttentionRows];
      AttendSomeRows(count, tile, tile.rows + begin, block, {max, sum, tile.block_acc});
      MergeRows(count, width, max, sum, tile.block_acc, out.max + begin, out.sum + begin,
                out.acc + begin * width);
    } else {
      AttendSomeRows(count, tile, tile.rows + begin, block,
                     {out.max + begin, out.sum + begin, out.acc + begin * width});
    }
  }
}

static void MergeState(int64_t rows, int64_t width, const AttentionState& block,
                       const AttentionState& state) {
  for (int64_t r = 0; r < rows; r += kMaxAttentionRows) {
    MergeRows(Smaller(kMaxAttentionRows, rows - r), width, block.max + r, block.sum + r,
              block.acc + r * width, state.max + r, state.sum + r, state.acc + r * width);
  }
}

static void FinishRow(const AttentionState& state, int64_t row, const AttentionTile& tile,
                      const float* sink, float* y, float* scores, int64_t keys) {
  float* acc = state.acc + row * tile.value_width;
  if (sink != nullptr && *sink != NegativeInfinity()) {
    // One more block: a key of score `sink` with a value of zero.
    const float one = 1.0f;
    for (int64_t d = 0; d < tile.value_width; d += 16) Store(tile.block_acc + d, ZeroF32());
    MergeRows(1, tile.value_width, sink, &one, tile.block_acc, state.max + row, state.sum + row,
              acc);
  }
  const bool empty = state.sum[row] == 0.0f;
  const F32x16 max = Splat(state.max[row]), sum = Splat(state.sum[row]);
  ForEach16(tile.value_size, [=](auto whole, int64_t d, int count) {
    const F32x16 value = empty ? ZeroF32() : Div(Load(acc + d), sum);
    StoreRow(whole, y + d, Canonical(value), count);
  });
  if (scores == nullptr) return;
  ForEach16(keys, [=](auto whole, int64_t j, int count) {
    const F32x16 score = LoadRow(whole, scores + j, count);
    const F32x16 weight = Div(Exp(Sub(score, max)), sum);
    const Mask16 none = Equal(score, Splat(NegativeInfinity()));
    StoreRow(whole, scores + j, Canonical(Select(none, ZeroF32(), weight)), count);
  });
}

extern const AttentionKernels kAttentionKernels;
const AttentionKernels kAttentionKernels = {kInstructionSet, AttendBlock<true>, AttendBlock<false>,
                                            MergeState, FinishRow};

}  // namespace batch_invariant::cpu::BI_SIMD

#endif  // BATCH_INVARIANT_KERNELS_CPU_ATTENTION_ATTENTION_BODY_H_
