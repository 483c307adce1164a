// com.microsoft.GroupQueryAttention: which tokens are past, new and padding; norm and rotary of new
// queries and keys; the caches. Then the attention core.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "batch_invariant/cpu/attention.h"
#include "kernels/cpu/dispatch/parallel_rows.h"
#include "kernels/cpu/norm/norm_kernels.h"
#include "kernels/cpu/rotary/rotary_kernels.h"

namespace batch_invariant::cpu {
namespace {

using Args = GroupQueryAttentionArgs;

Status Invalid(const std::string& what) {
  return Status::InvalidArgument("GroupQueryAttention: " + what);
}

Status CheckAttributes(const Args& args) {
  if (args.k_quant_type != "NONE" || args.v_quant_type != "NONE" || args.kv_cache_bit_width != 0) {
    return Status::Unsupported("GroupQueryAttention: quantised KV caches are not served");
  }
  if (args.sliding_window_cache != 0) {
    return Status::Unsupported("GroupQueryAttention: sliding_window_cache is not served");
  }
  if (args.num_heads <= 0 || args.kv_num_heads <= 0 || args.num_heads % args.kv_num_heads != 0) {
    return Invalid("num_heads must be a multiple of kv_num_heads, both positive");
  }
  if (args.causal != 0 && args.causal != 1) return Invalid("causal must be 0 or 1");
  if (args.local_window_size < -1 || args.local_window_size == 0) {
    return Invalid("local_window_size must be -1 or positive");
  }
  if (args.causal == 0 && args.local_window_size != -1) {
    return Invalid("local_window_size must be -1 when causal is 0");
  }
  if (args.qk_output < 0 || args.qk_output > 2) return Invalid("qk_output must be 0, 1 or 2");
  if (args.qk_output != 0 && args.output_qk == nullptr) {
    return Invalid("qk_output asks for an output that the node does not have");
  }
  return Status::Ok();
}

Status CheckInputs(const Args& args, int64_t kv_sequence) {
  if (args.batch < 0 || args.sequence < 0 || args.head_size <= 0) {
    return Invalid("the query's shape is out of range");
  }
  if (kv_sequence != args.sequence && kv_sequence != 0) {
    return Invalid("key and value must have as many tokens as the query, or none");
  }
  if (args.query == nullptr || args.output == nullptr || args.seqlens_k == nullptr) {
    return Invalid("query, seqlens_k or output has no data");
  }
  if (kv_sequence > 0 && (args.key == nullptr) != (args.value == nullptr)) {
    return Invalid("key and value must both be given, or neither for packed QKV");
  }
  if ((args.past_key == nullptr) != (args.past_value == nullptr) ||
      (args.present_key == nullptr) != (args.present_value == nullptr)) {
    return Invalid("key and value caches come in pairs");
  }
  const bool shared_key = args.past_key != nullptr && args.past_key == args.present_key;
  const bool shared_value = args.past_value != nullptr && args.past_value == args.present_value;
  if (shared_key != shared_value) return Invalid("only one of the two caches is shared");
  if (shared_key && args.past_capacity != args.present_capacity) {
    return Invalid("a shared cache cannot have two lengths");
  }
  if (args.present_key != nullptr && args.present_capacity < args.total_sequence_length) {
    return Invalid("the present caches hold " + std::to_string(args.present_capacity) +
                   " tokens but total_sequence_length is " +
                   std::to_string(args.total_sequence_length));
  }
  if ((args.q_norm_weight == nullptr) != (args.k_norm_weight == nullptr)) {
    return Invalid("q_norm_weight and k_norm_weight come together");
  }
  if (args.attention_bias != nullptr &&
      ((args.bias_batch != args.batch && args.bias_batch != 1) ||
       (args.bias_heads != args.num_heads && args.bias_heads != 1) ||
       args.bias_keys < args.total_sequence_length)) {
    return Invalid("attention_bias must be (batch or 1, num_heads or 1, sequence, total)");
  }
  if (args.do_rotary != 0) {
    if (args.cos_cache == nullptr || args.sin_cache == nullptr) {
      return Invalid("do_rotary needs cos_cache and sin_cache");
    }
    if (args.cache_width <= 0 || 2 * args.cache_width > args.head_size) {
      return Invalid("the width of the cos and sin caches must be at most half the head size");
    }
  }
  return Status::Ok();
}

// Lengths and positions of one batch row.
struct Lengths {
  int64_t total;  // keys in all
  int64_t past;   // the position of the first new token
  int64_t valid;  // new tokens that are not padding
};

class GroupQueryAttention {
 public:
  GroupQueryAttention(const Context& context, const Args& args)
      : context_(context),
        args_(args),
        kv_sequence_(args.kv_sequence < 0 ? args.sequence : args.kv_sequence),
        prompt_(args.sequence == args.total_sequence_length),
        packed_(kv_sequence_ > 0 && args.key == nullptr),
        shared_(args.past_key != nullptr && args.past_key == args.present_key),
        query_width_(args.num_heads * args.head_size),
        kv_width_(args.kv_num_heads * args.head_size) {}

  Status Run() {
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckAttributes(args_));
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckInputs(args_, kv_sequence_));
    for (int64_t b = 0; b < args_.batch; ++b) BATCH_INVARIANT_RETURN_IF_ERROR(CheckRow(b));
    norm_ = FindKernels(NormKernelTable(), context_.instruction_set);
    rotary_ = FindKernels(RotaryKernelTable(), context_.instruction_set);
    if (norm_ == nullptr || rotary_ == nullptr) {
      return Status::Unsupported(
          "GroupQueryAttention: this library has no kernel for the instruction set asked for");
    }
    if (args_.batch == 0 || args_.sequence == 0) return Status::Ok();
    BATCH_INVARIANT_RETURN_IF_ERROR(PlaceCaches());
    BATCH_INVARIANT_RETURN_IF_ERROR(PlaceQueries());
    CopyPast();
    AddTokens();
    return Attend();
  }

 private:
  Lengths LengthsOf(int64_t b) const {
    const int64_t total = int64_t{args_.seqlens_k[b]} + 1;
    if (prompt_) return {total, 0, std::min(total, args_.sequence)};
    return {total, total - args_.sequence, args_.sequence};
  }

  int64_t PositionOf(int64_t b, int64_t token, const Lengths& lengths) const {
    if (args_.position_ids == nullptr) return lengths.past + token;
    return prompt_ ? args_.position_ids[0] + token : args_.position_ids[b * args_.sequence + token];
  }

  Status CheckRow(int64_t b) const {
    const Lengths lengths = LengthsOf(b);
    const std::string where = " (batch row " + std::to_string(b) + ")";
    if (lengths.total < 0 || lengths.total > args_.total_sequence_length) {
      return Invalid("seqlens_k + 1 must be 0 to total_sequence_length" + where);
    }
    if (lengths.past < 0) {
      return Invalid("seqlens_k + 1 is less than the number of new tokens" + where);
    }
    const int64_t from_past = kv_sequence_ == 0 ? lengths.total : lengths.past;
    if (from_past > 0 && (args_.past_key == nullptr || args_.past_capacity < from_past)) {
      return Invalid("past_key and past_value hold fewer tokens than seqlens_k says" + where);
    }
    for (int64_t s = 0; args_.do_rotary != 0 && s < lengths.valid; ++s) {
      const int64_t position = PositionOf(b, s, lengths);
      if (position < 0 || position >= args_.cache_rows) {
        return Invalid("position " + std::to_string(position) + " is outside the " +
                       std::to_string(args_.cache_rows) + " rows of cos_cache" + where);
      }
    }
    return Status::Ok();
  }

  template <typename T>
  T* Allocate(int64_t count) const {
    return static_cast<T*>(context_.scratch.allocate(
        context_.scratch.self, sizeof(T) * static_cast<size_t>(std::max<int64_t>(count, 1))));
  }

  // Where keys and values are read from: present, past when nothing is new, or scratch.
  Status PlaceCaches() {
    if (args_.present_key != nullptr) {
      key_cache_ = args_.present_key;
      value_cache_ = args_.present_value;
      capacity_ = args_.present_capacity;
      return Status::Ok();
    }
    if (kv_sequence_ == 0) {
      read_past_ = true;
      capacity_ = args_.past_capacity;
      return Status::Ok();
    }
    capacity_ = args_.total_sequence_length;
    const int64_t size = args_.batch * kv_width_ * capacity_;
    key_cache_ = Allocate<float>(size);
    value_cache_ = Allocate<float>(size);
    if (key_cache_ == nullptr || value_cache_ == nullptr) {
      return Status::OutOfMemory("GroupQueryAttention: no memory for keys and values");
    }
    return Status::Ok();
  }

  Status PlaceQueries() {
    const int64_t token = query_width_ + (packed_ ? 2 * kv_width_ : 0);
    query_ = {args_.query, args_.sequence * token, args_.head_size, token};
    if (args_.do_rotary == 0 && args_.q_norm_weight == nullptr) return Status::Ok();
    new_query_ = Allocate<float>(args_.batch * args_.sequence * query_width_);
    if (new_query_ == nullptr) {
      return Status::OutOfMemory("GroupQueryAttention: no memory for the rotated queries");
    }
    return Status::Ok();
  }

  // Brings the past into separate present caches and clears the slots that hold no token. In a
  // shared cache only the slots of a prompt's padding are cleared.
  void CopyPast() const {
    if (read_past_) return;
    ParallelRows(
        context_.parallel, args_.batch * args_.kv_num_heads, 2 * capacity_ * args_.head_size,
        [&](int64_t begin, int64_t end) {
          for (int64_t head = begin; head < end; ++head) {
            const Lengths lengths = LengthsOf(head / args_.kv_num_heads);
            const int64_t from_past = kv_sequence_ == 0 ? lengths.total : lengths.past;
            const int64_t end_clear = !shared_                      ? capacity_
                                      : prompt_ && kv_sequence_ > 0 ? args_.sequence
                                                                    : 0;
            for (const auto& [past, present] : {std::pair(args_.past_key, key_cache_),
                                                std::pair(args_.past_value, value_cache_)}) {
              float* to = present + head * capacity_ * args_.head_size;
              if (!shared_ && from_past > 0) {
                std::memcpy(to, past + head * args_.past_capacity * args_.head_size,
                            sizeof(float) * static_cast<size_t>(from_past * args_.head_size));
              }
              for (int64_t i = lengths.total * args_.head_size; i < end_clear * args_.head_size;
                   ++i) {
                to[i] = 0.0f;
              }
            }
          }
        });
  }

  void AddTokens() const {
    if (new_query_ == nullptr && kv_sequence_ == 0) return;
    const int64_t cost = query_width_ + 2 * kv_width_;
    ParallelRows(context_.parallel, args_.batch * args_.sequence, cost,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t token = begin; token < end; ++token) AddToken(token);
                 });
  }

  void AddToken(int64_t token) const {
    const int64_t b = token / args_.sequence, s = token % args_.sequence;
    const Lengths lengths = LengthsOf(b);
    if (s >= lengths.valid) return;
    const float* query = query_.data + token * query_.token_stride;
    if (new_query_ != nullptr) {
      for (int64_t h = 0; h < args_.num_heads; ++h) {
        const int64_t offset = h * args_.head_size;
        PlaceHead(query + offset, args_.q_norm_weight, b, s, lengths,
                  new_query_ + token * query_width_ + offset);
      }
    }
    if (kv_sequence_ == 0) return;
    const float* key = packed_ ? query + query_width_ : args_.key + token * kv_width_;
    const float* value = packed_ ? key + kv_width_ : args_.value + token * kv_width_;
    for (int64_t h = 0; h < args_.kv_num_heads; ++h) {
      const int64_t slot =
          ((b * args_.kv_num_heads + h) * capacity_ + lengths.past + s) * args_.head_size;
      PlaceHead(key + h * args_.head_size, args_.k_norm_weight, b, s, lengths, key_cache_ + slot);
      std::memcpy(value_cache_ + slot, value + h * args_.head_size,
                  sizeof(float) * static_cast<size_t>(args_.head_size));
    }
  }

  // Norm and rotary, where asked for.
  void PlaceHead(const float* x, const float* norm_weight, int64_t b, int64_t s,
                 const Lengths& lengths, float* y) const {
    const float* from = x;
    if (norm_weight != nullptr) {
      NormArgs norm;
      norm.rows = 1;
      norm.width = args_.head_size;
      norm.epsilon = args_.qk_norm_epsilon;
      norm.x = x;
      norm.gamma = norm_weight;
      norm.y = y;
      norm_->rms(norm, 0, 1);
      from = y;
    }
    if (args_.do_rotary != 0) {
      const int64_t row = PositionOf(b, s, lengths) * args_.cache_width;
      rotary_->rotate_head(from, args_.cos_cache + row, args_.sin_cache + row, args_.head_size,
                           2 * args_.cache_width, args_.rotary_interleaved != 0, y);
    } else if (from != y) {
      std::memcpy(y, x, sizeof(float) * static_cast<size_t>(args_.head_size));
    }
  }

  Status Attend() const {
    auto* counts = Allocate<int64_t>(3 * args_.batch);
    if (counts == nullptr) return Status::OutOfMemory("GroupQueryAttention: no memory for lengths");
    int64_t* key_count = counts;
    int64_t* query_count = counts + args_.batch;
    int64_t* query_start = counts + 2 * args_.batch;
    int64_t keys = 0;
    for (int64_t b = 0; b < args_.batch; ++b) {
      const Lengths lengths = LengthsOf(b);
      key_count[b] = lengths.total;
      query_count[b] = lengths.valid;
      query_start[b] = lengths.past;
      keys = std::max(keys, lengths.total);
    }
    AttentionArgs attention;
    attention.batch = args_.batch;
    attention.query_heads = args_.num_heads;
    attention.kv_heads = args_.kv_num_heads;
    attention.queries = args_.sequence;
    attention.keys = keys;
    attention.head_size = attention.value_size = args_.head_size;
    attention.query = query_;
    if (new_query_ != nullptr) {
      attention.query = {new_query_, args_.sequence * query_width_, args_.head_size, query_width_};
    }
    const int64_t head_stride = capacity_ * args_.head_size;
    attention.key = {read_past_ ? args_.past_key : key_cache_, args_.kv_num_heads * head_stride,
                     head_stride, args_.head_size};
    attention.value = attention.key;
    attention.value.data = read_past_ ? args_.past_value : value_cache_;
    attention.output = {args_.output, args_.sequence * query_width_, args_.head_size, query_width_};
    attention.key_count = key_count;
    attention.query_count = query_count;
    attention.query_start = query_start;
    attention.causal = args_.causal != 0;
    attention.window_left = args_.local_window_size > 0 ? args_.local_window_size - 1 : -1;
    attention.scale =
        args_.scale != 0.0f ? args_.scale : 1.0f / std::sqrt(static_cast<float>(args_.head_size));
    attention.softcap = args_.softcap;
    if (args_.attention_bias != nullptr) {
      const int64_t head = args_.sequence * args_.bias_keys;
      attention.bias = args_.attention_bias;
      attention.bias_query_stride = args_.bias_keys;
      attention.bias_head_stride = args_.bias_heads == 1 ? 0 : head;
      attention.bias_batch_stride = args_.bias_batch == 1 ? 0 : args_.bias_heads * head;
      attention.bias_keys = args_.bias_keys;
    }
    attention.sink = args_.head_sink;
    attention.sink_is_zero = args_.head_sink == nullptr && args_.smooth_softmax == 1;
    if (args_.qk_output != 0) {
      attention.score_output = args_.qk_output == 1 ? ScoreOutput::kBiased : ScoreOutput::kSoftmax;
      attention.scores = args_.output_qk;
      attention.score_keys = args_.total_sequence_length;
    }
    return AttentionF32(context_, attention);
  }

  const Context& context_;
  const Args& args_;
  const int64_t kv_sequence_;
  const bool prompt_;
  const bool packed_;
  const bool shared_;
  const int64_t query_width_;
  const int64_t kv_width_;
  const NormKernels* norm_ = nullptr;
  const RotaryKernels* rotary_ = nullptr;
  float* key_cache_ = nullptr;
  float* value_cache_ = nullptr;
  int64_t capacity_ = 0;
  bool read_past_ = false;
  HeadView query_;
  float* new_query_ = nullptr;
};

}  // namespace

Status GroupQueryAttentionF32(const Context& context, const GroupQueryAttentionArgs& args) {
  return GroupQueryAttention(context, args).Run();
}

}  // namespace batch_invariant::cpu
