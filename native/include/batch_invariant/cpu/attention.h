// Attention in fp32, contract attention.f32: one core over strided views, and the ops built on it.
#ifndef BATCH_INVARIANT_CPU_ATTENTION_H_
#define BATCH_INVARIANT_CPU_ATTENTION_H_

#include <cstdint>
#include <string_view>

#include "batch_invariant/cpu/context.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cpu {

// A view of [batch, heads, tokens, size]: element (b, h, t, d) lies at
// b * batch_stride + h * head_stride + t * token_stride + d.
struct HeadView {
  const float* data = nullptr;
  int64_t batch_stride = 0, head_stride = 0, token_stride = 0;
};
struct MutableHeadView {
  float* data = nullptr;
  int64_t batch_stride = 0, head_stride = 0, token_stride = 0;
};

// Which stage of the scores `AttentionArgs::scores` receives.
enum class ScoreOutput : uint8_t {
  kNone,
  kScaled,   // q.k * scale
  kCapped,   // after the softcap
  kBiased,   // after bias and mask: what the softmax sees
  kSoftmax,  // exp(score - m) / sum with the final m and sum; 0 for a score of -Inf
};

// Query t of batch row b stands at absolute position p = query_start[b] + t; key j at j.
// Key j takes part iff j < key_count[b], and (causal) j <= p, and (window_left >= 0)
// j >= p - window_left, and (window_right >= 0) j <= p + window_right, and its mask entry is true,
// and j < bias_keys where there is a bias or mask.
//   score = softcap(q.k * scale) + bias,  softcap(s) = softcap * tanh(s / softcap)
//   y     = softmax(scores, with one more score `sink` whose value vector is zero) . V
// Keys that do not take part are excluded by value: whatever their K, V, bias and mask slots hold,
// NaN included, has no influence. A score of -Inf excludes its key as well, except that a NaN or
// Inf in its V row gives NaN. A query with no key gives zeros.
struct AttentionArgs {
  int64_t batch = 0;
  int64_t query_heads = 0;  // a multiple of kv_heads: head h reads kv head h / (their ratio)
  int64_t kv_heads = 0;
  int64_t queries = 0;
  int64_t keys = 0;  // upper bound of key_count; the key count itself where that is null
  int64_t head_size = 0;
  int64_t value_size = 0;
  HeadView query, key, value;
  // fp16 keys or values, by the strides of `key` and `value`; where not null, these have no data.
  const uint16_t* key_f16 = nullptr;
  const uint16_t* value_f16 = nullptr;
  // Where not null, brings the keys and values of one kv head of a batch row to where `key` and
  // `value` say. Called once for each of them before they are read, by the thread that reads them
  // where only one does.
  void (*fetch)(const void* self, int64_t batch, int64_t kv_head) = nullptr;
  const void* fetch_self = nullptr;
  MutableHeadView output;                // value_size elements per token
  const int64_t* key_count = nullptr;    // [batch], optional
  const int64_t* query_count = nullptr;  // [batch], optional: queries beyond give zeros
  const int64_t* query_start = nullptr;  // [batch], optional: zeros
  bool causal = false;
  int64_t window_left = -1;
  int64_t window_right = -1;
  float scale = 1.0f;
  float softcap = 0.0f;  // 0: none
  // Element (b, h, t, j) of bias and mask lies at b * bias_batch_stride + h * bias_head_stride +
  // t * bias_query_stride + j, likewise for mask; a stride of 0 broadcasts.
  const float* bias = nullptr;
  int64_t bias_batch_stride = 0, bias_head_stride = 0, bias_query_stride = 0;
  const bool* mask = nullptr;
  int64_t mask_batch_stride = 0, mask_head_stride = 0, mask_query_stride = 0;
  int64_t bias_keys = 0;        // columns of bias and mask
  const float* sink = nullptr;  // [query_heads], optional
  bool sink_is_zero = false;    // smooth softmax: a sink of 0 for every head; not with `sink`
  ScoreOutput score_output = ScoreOutput::kNone;
  float* scores = nullptr;  // [batch, query_heads, queries, score_keys]
  // What kScaled to kBiased hold where a key takes no part; kSoftmax holds 0 there.
  float score_excluded = 0.0f;
  int64_t score_keys = 0;  // >= keys
};

// kInvalidArgument: sizes, strides or counts that contradict each other; kOutOfMemory: no scratch.
Status AttentionF32(const Context& context, const AttentionArgs& args);

// Keys or values of a cache, fp32 or fp16.
class CachePointer {
 public:
  CachePointer() = default;
  CachePointer(std::nullptr_t) {}  // NOLINT: like a pointer
  CachePointer(float* data) : f32_(data) {}
  CachePointer(uint16_t* data) : f16_(data) {}

  bool operator==(const CachePointer&) const = default;

  float* f32() const { return f32_; }
  uint16_t* f16() const { return f16_; }
  size_t element_bytes() const { return f16_ != nullptr ? sizeof(uint16_t) : sizeof(float); }
  void* At(int64_t element) const {
    if (f16_ != nullptr) return f16_ + element;
    return f32_ + element;
  }

 private:
  float* f32_ = nullptr;
  uint16_t* f16_ = nullptr;
};

// com.microsoft.GroupQueryAttention, every attribute and input for float tensors. Keys and values
// that go into an fp16 cache are rounded to it, to nearest even, and attended to as it holds them.
//
// Batches are right-padded: row b has seqlens_k[b] + 1 valid tokens in all. When
// sequence == total_sequence_length this is a prompt: nothing is past, and the first
// seqlens_k[b] + 1 of the `sequence` new tokens are valid. Otherwise all new tokens are valid and
// seqlens_k[b] + 1 - sequence tokens are past. New keys and values go to the slots after the past
// ones; the outputs of padding tokens are zeros, and so are the slots of padding in `present`. With
// separate past and present tensors the past is copied and all slots behind the valid ones are
// zeros; with a shared buffer (the same pointers) other slots are left as they are.
//
// Positions for the rotary embedding: the slot index, or, with position_ids, position_ids[0] + s in
// a prompt and position_ids[b, s] otherwise. local_window_size W lets a query see itself and the W
// - 1 tokens before it.
//
// With sliding_window_cache the caches hold the most recent tokens only, oldest first: of T tokens
// in all, with C slots and G = C - W + 1, T while T <= C and T - G * ceil((T - C) / G) then. The
// bytes of the output are those of full caches.
struct GroupQueryAttentionArgs {
  // Shapes.
  int64_t batch = 0;
  int64_t sequence = 0;
  int64_t kv_sequence = -1;  // tokens of key and value: -1 for `sequence`, or 0: all in the past
  int64_t head_size = 0;
  // Attributes, with the schema's defaults.
  int64_t num_heads = 0;
  int64_t kv_num_heads = 0;
  float scale = 0.0f;  // 0: 1 / sqrt(head_size)
  float softcap = 0.0f;
  int64_t local_window_size = -1;
  int64_t do_rotary = 0;
  int64_t rotary_interleaved = 0;
  int64_t smooth_softmax = -1;
  int64_t causal = 1;
  int64_t qk_output = 0;  // 1: before the softmax (kBiased, 0 where excluded), 2: after it
  float qk_norm_epsilon = 1e-6f;
  std::string_view k_quant_type = "NONE";
  std::string_view v_quant_type = "NONE";
  int64_t kv_cache_bit_width = 0;
  int64_t sliding_window_cache = 0;
  // Inputs.
  const float* query = nullptr;     // [batch, sequence, num_heads * head_size], or packed QKV
  const float* key = nullptr;       // [batch, sequence, kv_num_heads * head_size]; null: packed
  const float* value = nullptr;     // like key
  CachePointer past_key;            // [batch, kv_num_heads, past_capacity, head_size], optional
  CachePointer past_value;
  int64_t past_capacity = 0;
  const int32_t* seqlens_k = nullptr;  // [batch]
  int64_t total_sequence_length = 0;
  const float* cos_cache = nullptr;  // [cache_rows, cache_width]; rotary_dim = 2 * cache_width
  const float* sin_cache = nullptr;
  int64_t cache_rows = 0;
  int64_t cache_width = 0;
  const int64_t* position_ids = nullptr;  // [batch, sequence], optional
  const float* attention_bias = nullptr;  // [bias_batch, bias_heads, sequence, bias_keys], optional
  int64_t bias_batch = 0;                 // batch or 1
  int64_t bias_heads = 0;                 // num_heads or 1
  int64_t bias_keys = 0;                  // >= total_sequence_length
  const float* head_sink = nullptr;       // [num_heads], optional
  const float* q_norm_weight = nullptr;   // [head_size], both or none
  const float* k_norm_weight = nullptr;
  // Outputs.
  float* output = nullptr;         // [batch, sequence, num_heads * head_size]
  CachePointer present_key;        // [batch, kv_num_heads, present_capacity, head_size], optional,
  CachePointer present_value;      // of the past's type; both or none
  int64_t present_capacity = 0;    // >= total_sequence_length; past_capacity when shared
  float* output_qk = nullptr;      // [batch, num_heads, sequence, total_sequence_length]
};

// kUnsupported: a quantised cache, by name. kInvalidArgument: attributes,
// shapes or lengths that contradict each other, a position outside the rotary caches.
// kOutOfMemory: no scratch. Nothing is written unless the arguments are valid.
Status GroupQueryAttentionF32(const Context& context, const GroupQueryAttentionArgs& args);

// com.microsoft.MultiHeadAttention after its inputs are laid out as views, and the attention part
// of com.microsoft.Attention after its projection: every packing of query, key and value is a
// choice of strides.
//
// The keys are the past ones, then the new ones. mask_filter_value is added to the score of a masked
// key, after attention_bias was. Up to -1000 the key is excluded instead, whatever it holds, which
// differs only for a query whose keys are all masked: it gives zeros here. With unidirectional, query t sees the keys up to
// past_sequence + t.
enum class KeyMask : uint8_t {
  kNone,
  kLengths,   // [batch]: keys below this take part (the first part of a (3 * batch + 2) mask)
  kEndStart,  // [2 * batch]: the end of each row's keys, then the start of each
  kKeys,      // [batch, total]: keys that are not 0 take part
  kQueries,   // [batch, sequence, total]
};

struct MultiHeadAttentionArgs {
  // Shapes.
  int64_t batch = 0;
  int64_t sequence = 0;     // queries
  int64_t kv_sequence = 0;  // new keys
  int64_t past_sequence = 0;
  int64_t head_size = 0;
  int64_t value_size = 0;
  // Attributes.
  int64_t num_heads = 0;
  float scale = 0.0f;  // 0: 1 / sqrt(head_size)
  float mask_filter_value = -10000.0f;
  bool unidirectional = false;
  bool rounds_to_f16 = false;  // new keys and values, with their bias, as an fp16 cache holds them
  // Inputs.
  HeadView query, key, value;
  const float* query_bias = nullptr;  // [num_heads * head_size], optional, like the next two
  const float* key_bias = nullptr;
  const float* value_bias = nullptr;  // [num_heads * value_size]
  const float* past_key = nullptr;    // [batch, num_heads, past_capacity, head_size], optional
  const float* past_value = nullptr;  // [batch, num_heads, past_capacity, value_size]
  int64_t past_capacity = 0;          // past_sequence unless the buffer is shared with present
  KeyMask key_mask = KeyMask::kNone;
  const int32_t* mask = nullptr;
  const float* attention_bias = nullptr;  // [bias_batch, bias_heads, sequence, total], optional
  int64_t bias_batch = 0;                 // batch or 1
  int64_t bias_heads = 0;                 // num_heads or 1
  // Outputs.
  float* output = nullptr;         // [batch, sequence, num_heads * value_size]
  float* present_key = nullptr;    // [batch, num_heads, present_capacity, head_size], optional
  float* present_value = nullptr;  // both or none; may be the past buffers
  int64_t present_capacity = 0;
  float* output_qk = nullptr;  // [batch, num_heads, sequence, total]: scaled scores, optional
};

// kInvalidArgument, kOutOfMemory: as above. Nothing is written unless the arguments are valid.
Status MultiHeadAttentionF32(const Context& context, const MultiHeadAttentionArgs& args);

// Attention of opsets 23 and 24, for float tensors.
struct OnnxAttentionArgs {
  // Shapes.
  int64_t batch = 0;
  int64_t sequence = 0;     // queries
  int64_t kv_sequence = 0;  // new keys
  int64_t past_sequence = 0;
  int64_t head_size = 0;
  int64_t value_size = 0;
  // Attributes.
  int64_t q_num_heads = 0;
  int64_t kv_num_heads = 0;
  bool is_causal = false;
  float scale = 0.0f;  // 0: 1 / sqrt(head_size)
  float softcap = 0.0f;
  int64_t qk_matmul_output_mode = 0;  // 0: scaled, 1: capped, 2: masked, 3: softmax
  // Inputs. The 3-D and 4-D layouts differ in their strides only.
  HeadView query, key, value;
  const float* past_key = nullptr;    // [batch, kv_num_heads, past_sequence, head_size], optional
  const float* past_value = nullptr;  // [batch, kv_num_heads, past_sequence, value_size]
  // One of these, or none. Element (b, h, t, j) lies at b * mask_batch_stride +
  // h * mask_head_stride + t * mask_query_stride + j; strides of 0 broadcast. Keys from mask_keys
  // on are excluded.
  const float* float_mask = nullptr;  // added to the scores
  const bool* bool_mask = nullptr;    // true: takes part
  int64_t mask_batch_stride = 0, mask_head_stride = 0, mask_query_stride = 0;
  int64_t mask_keys = 0;
  const int64_t* nonpad_kv_seqlen = nullptr;  // [batch], opset 24, not with a past
  // Outputs.
  MutableHeadView output;
  float* present_key = nullptr;  // [batch, kv_num_heads, past_sequence + kv_sequence, head_size]
  float* present_value = nullptr;
  float* qk_matmul_output = nullptr;  // [batch, q_num_heads, sequence, past_sequence + kv_sequence]
};

// kInvalidArgument, kOutOfMemory: as above. Nothing is written unless the arguments are valid.
Status OnnxAttentionF32(const Context& context, const OnnxAttentionArgs& args);

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_CPU_ATTENTION_H_
