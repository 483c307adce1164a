// What the multi-head attentions of com.microsoft share: how their operands lie in memory, whatever
// the device.
#ifndef BATCH_INVARIANT_ORT_OPS_ATTENTION_INPUTS_H_
#define BATCH_INVARIANT_ORT_OPS_ATTENTION_INPUTS_H_

#include <string>

#include "ort/ops/op.h"

namespace batch_invariant::ort {

// Elements of a tensor from `offset` on, in elements of its type.
struct Place {
  void* data = nullptr;
  int64_t offset = 0;

  explicit operator bool() const { return data != nullptr; }
};

// Element (b, h, t, d) lies at b * batch_stride + h * head_stride + t * token_stride + d.
struct HeadPlace {
  Place at;
  int64_t batch_stride = 0;
  int64_t head_stride = 0;
  int64_t token_stride = 0;
};

// Which keys a mask of int32 hides.
enum class MaskForm {
  kNone,
  kLengths,   // [batch]: keys from this on (the first part of a (3 * batch + 2) mask)
  kEndStart,  // [2 * batch]: the end of each row's keys, then the start of each
  kKeys,      // [batch, total]: keys of value 0
  kQueries,   // [batch, sequence, total]
  kSquare,    // [batch, 1, side, side]: a query has the row of its own position
};

// MultiHeadAttention, and Attention behind its projection. The keys are the past ones, then the new
// ones.
struct MultiHeadAttentionOperands {
  ElementType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  // Shapes.
  int64_t batch = 0;
  int64_t sequence = 0;
  int64_t kv_sequence = 0;
  int64_t past_sequence = 0;
  int64_t head_size = 0;
  int64_t value_size = 0;
  // Attributes.
  int64_t num_heads = 0;
  float scale = 0.0f;
  float mask_filter_value = -10000.0f;
  bool unidirectional = false;
  bool rounds_to_f16 = false;  // new keys and values, with their bias, as an fp16 cache holds them
  // Inputs.
  HeadPlace query, key, value;
  Place query_bias, key_bias, value_bias;
  Place past_key, past_value;  // [batch, num_heads, past_sequence, size]
  MaskForm mask_form = MaskForm::kNone;
  const int32_t* mask = nullptr;
  int64_t mask_side = 0;  // kSquare
  Place attention_bias;   // [bias_batch, bias_heads, sequence, total]
  int64_t bias_batch = 0;
  int64_t bias_heads = 0;
  // Outputs.
  Place output;                      // [batch, sequence, num_heads * value_size]
  Place present_key, present_value;  // [batch, num_heads, total, size], both or none
  Place output_qk;                   // [batch, num_heads, sequence, total]

  int64_t total() const { return past_sequence + kv_sequence; }
};

// [batch, tokens, heads * size], or [batch, tokens, heads, parts, size] at one part.
HeadPlace PlaceTokens(const Tensor& tensor, int64_t tokens, int64_t heads, int64_t size,
                      int64_t parts = 1, int64_t part = 0);

// "`op`: `what` is [2,3], needed is ..."
Status WrongShape(const std::string& op, const char* what, const Tensor& tensor,
                  const char* needed);

// A mask of [batch], [3 * batch + 2], [batch, total] or [batch, sequence, total]; absent: none.
Status ReadKeyMask(const std::string& op, const char* what, const Tensor& mask,
                   MultiHeadAttentionOperands* operands);

// [batch or 1, num_heads or 1, sequence, total]; absent: none.
Status ReadAttentionBias(const std::string& op, const Tensor& bias,
                         MultiHeadAttentionOperands* operands);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_ATTENTION_INPUTS_H_
