// MultiHeadAttention and Attention (com.microsoft, behind its projection) and Attention of opsets
// 23 and 24 on CUDA: biases, past and new keys behind each other, masks; then the core of
// attention.h.
//
// Contract: that of attention.h, with
//   query, key, value  x + bias, rounded to the element type, where there is a bias
//   heads              keys and values of different sizes, or of no multiple of 8, count as heads
//                      of the larger size, filled up to a multiple of 8 with zeros
//   bias of a key      the mask's value, or 0; where key_mask hides the key and `filter` is above
//                      -1000, plus `filter`, added in fp32 and rounded to the element type once.
//                      -Inf where the key is hidden: a filter up to -1000, a false in a boolean
//                      mask, beyond bias_keys, beyond key_lengths, or, with key_lengths and causal,
//                      behind the query.
// A row whose keys are all hidden gives zeros.
#ifndef BATCH_INVARIANT_CUDA_MULTI_HEAD_ATTENTION_H_
#define BATCH_INVARIANT_CUDA_MULTI_HEAD_ATTENTION_H_

#include <cstddef>
#include <cstdint>

#include "batch_invariant/cuda/attention.h"
#include "batch_invariant/cuda/common.h"
#include "batch_invariant/cuda/data_type.h"
#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

// Which keys `mask` hides.
enum class KeyMask : std::uint8_t {
  kNone,
  kLengths,   // [batch]: keys from this on
  kEndStart,  // [2 * batch]: those from the end on and those before the start; ends first
  kValues,  // those of value 0; element (b, t, j) at b * mask_batch_stride + t * mask_query_stride
            // + j
};

struct MultiHeadAttentionArgs {
  ElementType type = ElementType::kFloat32;
  int batch = 0;
  int sequence = 0;       // queries
  int kv_sequence = 0;    // new keys
  int past_sequence = 0;  // keys before them
  int heads = 0;          // a multiple of kv_heads
  int kv_heads = 0;
  int head_size = 0;
  int value_size = 0;

  HeadTensor query, key, value;
  const void* query_bias = nullptr;  // [heads * head_size], optional, like the next two
  const void* key_bias = nullptr;    // [kv_heads * head_size]
  const void* value_bias = nullptr;  // [kv_heads * value_size]
  const void* past_key = nullptr;    // [batch, kv_heads, past_sequence, head_size]
  const void* past_value = nullptr;  // [batch, kv_heads, past_sequence, value_size]

  float scale = 0.0f;  // 0: 1 / sqrt(head_size)
  float softcap = 0.0f;
  // Query t sees the keys up to past_sequence + t; with key_lengths up to key_lengths[b] - sequence
  // + t.
  bool causal = false;

  KeyMask key_mask = KeyMask::kNone;
  const std::int32_t* mask = nullptr;
  std::int64_t mask_batch_stride = 0;
  std::int64_t mask_query_stride = 0;
  float filter = -10000.0f;

  // Added to the scores, or, of type kBool, true where a key takes part; element (b, h, t, j) at
  // b * bias_batch_stride + ... + j * bias_key_stride. Keys from bias_keys on are hidden.
  const void* bias = nullptr;
  DataType bias_type = DataType::kFloat32;  // or kFloat16, kBFloat16, kBool
  std::int64_t bias_batch_stride = 0;
  std::int64_t bias_head_stride = 0;
  std::int64_t bias_query_stride = 0;
  std::int64_t bias_key_stride = 1;  // or 0
  int bias_keys = 0;

  const std::int64_t* key_lengths = nullptr;  // [batch], optional; not with a past

  void* output = nullptr;  // element (b, h, t, d) by output_strides.{batch,head,token}_stride
  HeadTensor output_strides;
  // [batch, kv_heads, past_sequence + kv_sequence, head_size or value_size], optional, both or none
  void* present_key = nullptr;
  void* present_value = nullptr;

  int total() const { return past_sequence + kv_sequence; }
};

// Bytes of scratch that MultiHeadAttention needs, from shapes alone.
Status MultiHeadAttentionWorkspaceBytes(const MultiHeadAttentionArgs& args, std::size_t* bytes);

// Enqueues the op. Allocates nothing, waits for nothing, can be captured in a graph. `workspace` is
// 16-byte aligned. kInvalidArgument: shapes or operands that contradict the above. kUnsupported: a
// head size above 256, or a device that is not served. kDeviceError: a launch failed.
Status MultiHeadAttention(const MultiHeadAttentionArgs& args, void* workspace,
                          std::size_t workspace_bytes, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_CUDA_MULTI_HEAD_ATTENTION_H_
