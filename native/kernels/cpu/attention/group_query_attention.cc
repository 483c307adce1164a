// com.microsoft.GroupQueryAttention: which tokens are past, new and padding; norm and rotary of new
// queries and keys; the caches. Then the attention core.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/attention.h"
#include "kernels/cpu/dispatch/parallel_rows.h"
#include "kernels/cpu/elementwise/elementwise_kernels.h"
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
  if (args.sliding_window_cache != 0 && (args.local_window_size <= 0 || args.qk_output != 0)) {
    return Invalid("sliding_window_cache needs a local_window_size and excludes qk_output");
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
  if (args.past_key != nullptr && args.present_key != nullptr &&
      args.past_key.element_bytes() != args.present_key.element_bytes()) {
    return Invalid("past and present caches are of one type");
  }
  const bool shared_key = args.past_key != nullptr && args.past_key == args.present_key;
  const bool shared_value = args.past_value != nullptr && args.past_value == args.present_value;
  if (shared_key != shared_value) return Invalid("only one of the two caches is shared");
  if (shared_key && args.past_capacity != args.present_capacity) {
    return Invalid("a shared cache cannot have two lengths");
  }
  if (args.sliding_window_cache != 0) {
    if (kv_sequence == 0 || args.present_key == nullptr ||
        args.present_capacity < args.local_window_size ||
        (args.past_key != nullptr && args.past_capacity != args.present_capacity)) {
      return Invalid(
          "sliding_window_cache needs new keys, and past and present caches of one length, at "
          "least local_window_size");
    }
  } else if (args.present_key != nullptr && args.present_capacity < args.total_sequence_length) {
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
        windowed_(args.sliding_window_cache != 0),
        query_width_(args.num_heads * args.head_size),
        kv_width_(args.kv_num_heads * args.head_size) {}

  Status Run() {
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckAttributes(args_));
    BATCH_INVARIANT_RETURN_IF_ERROR(CheckInputs(args_, kv_sequence_));
    for (int64_t b = 0; b < args_.batch; ++b) BATCH_INVARIANT_RETURN_IF_ERROR(CheckRow(b));
    norm_ = FindKernels(NormKernelTable(), context_.instruction_set);
    rotary_ = FindKernels(RotaryKernelTable(), context_.instruction_set);
    elementwise_ = FindKernels(ElementwiseKernelTable(), context_.instruction_set);
    if (norm_ == nullptr || rotary_ == nullptr || elementwise_ == nullptr) {
      return Status::Unsupported(
          "GroupQueryAttention: this library has no kernel for the instruction set asked for");
    }
    if (args_.batch == 0 || args_.sequence == 0) return Status::Ok();
    if (windowed_) return RunWindowed();
    BATCH_INVARIANT_RETURN_IF_ERROR(PlaceCaches());
    BATCH_INVARIANT_RETURN_IF_ERROR(PlaceQueries());
    CopyPast();
    AddTokens(0, args_.batch);
    return Attend(0, args_.batch);
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
    int64_t from_past = kv_sequence_ == 0 ? lengths.total : lengths.past;
    if (windowed_) from_past = TokensInWindow(from_past);
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

  // How many of so many tokens a cache of windows holds.
  int64_t TokensInWindow(int64_t tokens) const {
    const int64_t slots = args_.present_capacity, leave = slots - args_.local_window_size + 1;
    if (tokens <= slots) return tokens;
    return tokens - (tokens - slots + leave - 1) / leave * leave;
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
      key_cache_ = args_.past_key;
      value_cache_ = args_.past_value;
      capacity_ = args_.past_capacity;
      return Status::Ok();
    }
    capacity_ = args_.total_sequence_length;
    return AllocateCaches(args_.batch * kv_width_ * capacity_, args_.past_key.f16() != nullptr);
  }

  Status AllocateCaches(int64_t size, bool half) {
    if (half) {
      key_cache_ = Allocate<uint16_t>(size);
      value_cache_ = Allocate<uint16_t>(size);
    } else {
      key_cache_ = Allocate<float>(size);
      value_cache_ = Allocate<float>(size);
    }
    if (key_cache_ == nullptr || value_cache_ == nullptr) {
      return Status::OutOfMemory("GroupQueryAttention: no memory for keys and values");
    }
    return Status::Ok();
  }

  // One batch row after the other, since their windows begin at different tokens: the keys that its
  // queries see go to scratch, counted from a multiple of a block of keys, so that the core meets
  // the blocks of full caches.
  Status RunWindowed() {
    const int64_t kept = args_.local_window_size - 1;
    const auto origin_of = [&](const Lengths& lengths) {
      return std::max<int64_t>(0, lengths.past - kept) / contract::kAttentionBlockKeys *
             contract::kAttentionBlockKeys;
    };
    for (int64_t b = 0; b < args_.batch; ++b) {
      const Lengths lengths = LengthsOf(b);
      capacity_ = std::max(capacity_, lengths.total - origin_of(lengths));
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(
        AllocateCaches(kv_width_ * capacity_, args_.present_key.f16() != nullptr));
    BATCH_INVARIANT_RETURN_IF_ERROR(PlaceQueries());
    for (int64_t b = 0; b < args_.batch; ++b) {
      const Lengths lengths = LengthsOf(b);
      first_row_ = b;
      origin_ = origin_of(lengths);
      TakeWindow(lengths);
      AddTokens(b, b + 1);
      BATCH_INVARIANT_RETURN_IF_ERROR(Attend(b, b + 1));
      KeepWindow(lengths);
    }
    return Status::Ok();
  }

  // Calls move(past, present, scratch, head of the caches, head of the scratch) for keys and values.
  template <typename Move>
  void ForEachWindow(Move&& move) const {
    ParallelRows(context_.parallel, args_.kv_num_heads, 2 * capacity_ * args_.head_size,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t h = begin; h < end; ++h) {
                     const int64_t head = first_row_ * args_.kv_num_heads + h;
                     move(args_.past_key, args_.present_key, key_cache_, head, h);
                     move(args_.past_value, args_.present_value, value_cache_, head, h);
                   }
                 });
  }
  void* Slot(CachePointer cache, int64_t head, int64_t slots, int64_t slot) const {
    return cache.At((head * slots + slot) * args_.head_size);
  }
  size_t Bytes(CachePointer cache, int64_t tokens) const {
    return cache.element_bytes() * static_cast<size_t>(tokens * args_.head_size);
  }

  void TakeWindow(const Lengths& lengths) const {
    const int64_t oldest = lengths.past - TokensInWindow(lengths.past);
    const int64_t from = std::max(origin_, oldest);
    ForEachWindow([&](CachePointer past, CachePointer, CachePointer scratch, int64_t head,
                      int64_t h) {
      std::memset(Slot(scratch, h, capacity_, 0), 0, Bytes(scratch, from - origin_));
      if (from == lengths.past) return;
      std::memcpy(Slot(scratch, h, capacity_, from - origin_),
                  Slot(past, head, args_.past_capacity, from - oldest),
                  Bytes(scratch, lengths.past - from));
    });
  }

  void KeepWindow(const Lengths& lengths) const {
    const int64_t oldest = lengths.past - TokensInWindow(lengths.past);
    const int64_t tokens = TokensInWindow(lengths.total), first = lengths.total - tokens;
    const int64_t old = std::max<int64_t>(0, lengths.past - first), slots = args_.present_capacity;
    ForEachWindow([&](CachePointer past, CachePointer present, CachePointer scratch, int64_t head,
                      int64_t h) {
      if (old > 0) {
        std::memmove(Slot(present, head, slots, 0), Slot(past, head, slots, first - oldest),
                     Bytes(present, old));
      }
      std::memcpy(Slot(present, head, slots, old),
                  Slot(scratch, h, capacity_, std::max(first, lengths.past) - origin_),
                  Bytes(present, tokens - old));
      if (!shared_) {
        std::memset(Slot(present, head, slots, tokens), 0, Bytes(present, slots - tokens));
      }
    });
  }

  // Also a place for one new key of each token, where it is rounded on its way into the cache.
  Status PlaceQueries() {
    if (key_cache_.f16() != nullptr && kv_sequence_ > 0) {
      new_key_ = Allocate<float>(args_.batch * args_.sequence * args_.head_size);
      if (new_key_ == nullptr) {
        return Status::OutOfMemory("GroupQueryAttention: no memory for new keys");
      }
    }
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
              const int64_t slot = head * capacity_;
              if (!shared_ && from_past > 0) {
                std::memcpy(present.At(slot * args_.head_size),
                            past.At(head * args_.past_capacity * args_.head_size),
                            present.element_bytes() *
                                static_cast<size_t>(from_past * args_.head_size));
              }
              if (lengths.total < end_clear) {
                std::memset(present.At((slot + lengths.total) * args_.head_size), 0,
                            present.element_bytes() * static_cast<size_t>(
                                (end_clear - lengths.total) * args_.head_size));
              }
            }
          }
        });
  }

  // Of batch rows [first, end_row).
  void AddTokens(int64_t first, int64_t end_row) const {
    if (new_query_ == nullptr && kv_sequence_ == 0) return;
    const int64_t cost = query_width_ + 2 * kv_width_;
    ParallelRows(context_.parallel, (end_row - first) * args_.sequence, cost,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t token = begin; token < end; ++token) {
                     AddToken(first * args_.sequence + token);
                   }
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
          (((b - first_row_) * args_.kv_num_heads + h) * capacity_ + lengths.past + s - origin_) *
          args_.head_size;
      const float* new_value = value + h * args_.head_size;
      if (new_key_ != nullptr) {
        float* new_key = new_key_ + token * args_.head_size;
        PlaceHead(key + h * args_.head_size, args_.k_norm_weight, b, s, lengths, new_key);
        elementwise_->round_to_f16(new_key, key_cache_.f16() + slot, args_.head_size);
        elementwise_->round_to_f16(new_value, value_cache_.f16() + slot, args_.head_size);
        continue;
      }
      PlaceHead(key + h * args_.head_size, args_.k_norm_weight, b, s, lengths,
                key_cache_.f32() + slot);
      std::memcpy(value_cache_.f32() + slot, new_value,
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

  // Batch rows [first, end), which are the first rows of the caches.
  Status Attend(int64_t first, int64_t end) const {
    const int64_t batch = end - first;
    auto* counts = Allocate<int64_t>(3 * batch);
    if (counts == nullptr) return Status::OutOfMemory("GroupQueryAttention: no memory for lengths");
    int64_t* key_count = counts;
    int64_t* query_count = counts + batch;
    int64_t* query_start = counts + 2 * batch;
    int64_t keys = 0;
    for (int64_t b = 0; b < batch; ++b) {
      const Lengths lengths = LengthsOf(first + b);
      key_count[b] = lengths.total - origin_;
      query_count[b] = lengths.valid;
      query_start[b] = lengths.past - origin_;
      keys = std::max(keys, key_count[b]);
    }
    AttentionArgs attention;
    attention.batch = batch;
    attention.query_heads = args_.num_heads;
    attention.kv_heads = args_.kv_num_heads;
    attention.queries = args_.sequence;
    attention.keys = keys;
    attention.head_size = attention.value_size = args_.head_size;
    attention.query = query_;
    if (new_query_ != nullptr) {
      attention.query = {new_query_, args_.sequence * query_width_, args_.head_size, query_width_};
    }
    attention.query.data += first * attention.query.batch_stride;
    const int64_t head_stride = capacity_ * args_.head_size;
    attention.key = {key_cache_.f32(), args_.kv_num_heads * head_stride, head_stride,
                     args_.head_size};
    attention.value = attention.key;
    attention.value.data = value_cache_.f32();
    attention.key_f16 = key_cache_.f16();
    attention.value_f16 = value_cache_.f16();
    const int64_t output_stride = args_.sequence * query_width_;
    attention.output = {args_.output + first * output_stride, output_stride, args_.head_size,
                        query_width_};
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
      attention.bias_query_stride = args_.bias_keys;
      attention.bias_head_stride = args_.bias_heads == 1 ? 0 : head;
      attention.bias_batch_stride = args_.bias_batch == 1 ? 0 : args_.bias_heads * head;
      attention.bias = args_.attention_bias + first * attention.bias_batch_stride + origin_;
      attention.bias_keys = args_.bias_keys - origin_;
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
  const bool windowed_;
  const int64_t query_width_;
  const int64_t kv_width_;
  const NormKernels* norm_ = nullptr;
  const RotaryKernels* rotary_ = nullptr;
  const ElementwiseKernels* elementwise_ = nullptr;
  CachePointer key_cache_;
  CachePointer value_cache_;
  int64_t capacity_ = 0;
  int64_t first_row_ = 0;  // the batch row that the caches begin with
  int64_t origin_ = 0;     // the token that they begin with
  bool read_past_ = false;
  HeadView query_;
  float* new_query_ = nullptr;
  float* new_key_ = nullptr;
};

}  // namespace

Status GroupQueryAttentionF32(const Context& context, const GroupQueryAttentionArgs& args) {
  return GroupQueryAttention(context, args).Run();
}

}  // namespace batch_invariant::cpu
