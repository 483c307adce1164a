// The definition of attention.f32 in plain loops.
#ifndef BATCH_INVARIANT_KERNELS_REFERENCE_ATTENTION_H_
#define BATCH_INVARIANT_KERNELS_REFERENCE_ATTENTION_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/attention.h"
#include "kernels/reference/elementwise.h"

namespace batch_invariant::reference {

// Where blocks of keys begin: at multiples of `keys`, counted from key 0 (the contract) or from the
// first key that the query may see. The latter exists to show that a test notices it.
struct BlockRule {
  int64_t keys = contract::kAttentionBlockKeys;
  bool from_first_key = false;
};

// The running softmax of one query.
struct SoftmaxState {
  float max = -std::numeric_limits<float>::infinity();
  float sum = 0.0f;
  bool empty = true;
  std::vector<float> acc;

  void Merge(float block_max, float block_sum, const float* block_acc) {
    const float next = max > block_max ? max : block_max;
    const float a = Exp(max - next);
    const float b = Exp(block_max - next);
    for (size_t d = 0; d < acc.size(); ++d) acc[d] = std::fma(acc[d], a, block_acc[d] * b);
    sum = std::fma(sum, a, block_sum * b);
    max = next;
    empty = false;
  }
};

inline void Attention(const cpu::AttentionArgs& args, BlockRule rule = {}) {
  constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();
  const int64_t group = args.query_heads / std::max<int64_t>(args.kv_heads, 1);
  for (int64_t b = 0; b < args.batch; ++b) {
    const int64_t key_count = args.key_count != nullptr ? args.key_count[b] : args.keys;
    const int64_t query_count = args.query_count != nullptr ? args.query_count[b] : args.queries;
    const int64_t query_start = args.query_start != nullptr ? args.query_start[b] : 0;
    for (int64_t h = 0; h < args.query_heads; ++h) {
      for (int64_t t = 0; t < args.queries; ++t) {
        float* y = args.output.data + b * args.output.batch_stride + h * args.output.head_stride +
                   t * args.output.token_stride;
        float* score_row =
            args.score_output == cpu::ScoreOutput::kNone
                ? nullptr
                : args.scores + ((b * args.query_heads + h) * args.queries + t) * args.score_keys;
        const bool softmax_scores = args.score_output == cpu::ScoreOutput::kSoftmax;
        if (score_row != nullptr) {
          std::fill_n(score_row, args.score_keys, softmax_scores ? 0.0f : args.score_excluded);
        }
        if (t >= query_count) {
          std::fill_n(y, args.value_size, 0.0f);
          continue;
        }
        const int64_t p = query_start + t;
        const float* q = args.query.data + b * args.query.batch_stride +
                         h * args.query.head_stride + t * args.query.token_stride;
        const auto takes_part = [&](int64_t j) {
          if (j >= key_count || (args.causal && j > p)) return false;
          if (args.window_left >= 0 && j < p - args.window_left) return false;
          if (args.window_right >= 0 && j > p + args.window_right) return false;
          if ((args.bias != nullptr || args.mask != nullptr) && j >= args.bias_keys) return false;
          return args.mask == nullptr ||
                 args.mask[b * args.mask_batch_stride + h * args.mask_head_stride +
                           t * args.mask_query_stride + j];
        };
        int64_t origin = 0;
        while (rule.from_first_key && origin < key_count && !takes_part(origin)) ++origin;

        SoftmaxState state;
        state.acc.assign(args.value_size, 0.0f);
        std::vector<float> block_acc(args.value_size);
        std::vector<std::pair<int64_t, float>> kept;
        for (int64_t begin = origin; begin < key_count; begin += rule.keys) {
          std::vector<std::pair<int64_t, float>> scores;
          float block_max = kNegativeInfinity;
          bool has_nan = false;
          for (int64_t j = begin; j < std::min(begin + rule.keys, key_count); ++j) {
            if (!takes_part(j)) continue;
            const float* k = args.key.data + b * args.key.batch_stride +
                             h / group * args.key.head_stride + j * args.key.token_stride;
            float dot = 0.0f;
            for (int64_t d = 0; d < args.head_size; ++d) dot = std::fma(q[d], k[d], dot);
            const float scaled = dot * args.scale;
            const float capped =
                args.softcap != 0.0f ? args.softcap * Tanh(scaled / args.softcap) : scaled;
            float score = capped;
            if (args.bias != nullptr) {
              score += args.bias[b * args.bias_batch_stride + h * args.bias_head_stride +
                                 t * args.bias_query_stride + j];
            }
            if (args.score_output == cpu::ScoreOutput::kScaled) score_row[j] = scaled;
            if (args.score_output == cpu::ScoreOutput::kCapped) score_row[j] = capped;
            if (args.score_output == cpu::ScoreOutput::kBiased) score_row[j] = score;
            scores.emplace_back(j, score);
            block_max = score > block_max ? score : block_max;
            has_nan = has_nan || score != score;
          }
          kept.insert(kept.end(), scores.begin(), scores.end());
          if (block_max == kNegativeInfinity && !has_nan) continue;
          float block_sum = 0.0f;
          std::fill(block_acc.begin(), block_acc.end(), 0.0f);
          for (const auto& [j, score] : scores) {
            const float* v = args.value.data + b * args.value.batch_stride +
                             h / group * args.value.head_stride + j * args.value.token_stride;
            const float probability = Exp(score - block_max);
            block_sum += probability;
            for (int64_t d = 0; d < args.value_size; ++d) {
              block_acc[d] = std::fma(probability, v[d], block_acc[d]);
            }
          }
          state.Merge(block_max, block_sum, block_acc.data());
        }
        if (args.sink != nullptr || args.sink_is_zero) {
          const float sink = args.sink != nullptr ? args.sink[h] : 0.0f;
          std::fill(block_acc.begin(), block_acc.end(), 0.0f);
          if (sink != kNegativeInfinity) state.Merge(sink, 1.0f, block_acc.data());
        }
        for (int64_t d = 0; d < args.value_size; ++d) {
          y[d] = state.empty ? 0.0f : state.acc[d] / state.sum;
        }
        if (softmax_scores && !state.empty) {
          for (const auto& [j, score] : kept) {
            score_row[j] = score == kNegativeInfinity ? 0.0f : Exp(score - state.max) / state.sum;
          }
        }
      }
    }
  }
}

}  // namespace batch_invariant::reference

#endif  // BATCH_INVARIANT_KERNELS_REFERENCE_ATTENTION_H_
