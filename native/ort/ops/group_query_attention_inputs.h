// The inputs and attributes of GroupQueryAttention, checked once for every device.
#ifndef BATCH_INVARIANT_ORT_OPS_GROUP_QUERY_ATTENTION_INPUTS_H_
#define BATCH_INVARIANT_ORT_OPS_GROUP_QUERY_ATTENTION_INPUTS_H_

#include <array>

#include "ort/ops/op.h"

namespace batch_invariant::ort {

enum GroupQueryAttentionInput : size_t {
  kQuery,
  kKey,
  kValue,
  kPastKey,
  kPastValue,
  kSeqlensK,
  kTotalSequenceLength,
  kCosCache,
  kSinCache,
  kPositionIds,
  kAttentionBias,
  kHeadSink,
  kKScale,
  kVScale,
  kQNormWeight,
  kKNormWeight,
  kInputCount,
};

// Absent attributes have the schema's defaults.
struct GroupQueryAttentionAttributes {
  int64_t num_heads = 0;
  int64_t kv_num_heads = 0;
  float scale = 0.0f;
  float softcap = 0.0f;
  int64_t local_window_size = -1;
  int64_t do_rotary = 0;
  int64_t rotary_interleaved = 0;
  int64_t smooth_softmax = -1;
  int64_t causal = 1;
  int64_t qk_output = 0;
  int64_t sliding_window_cache = 0;
  float qk_norm_epsilon = 1e-6f;

  explicit GroupQueryAttentionAttributes(const NodeInfo& node);
};

// Refuses what no device serves: quantised caches, by name.
Status AcceptGroupQueryAttention(const NodeInfo& node);

// The inputs of one call, their shapes checked against each other. Only total_sequence_length,
// which is in host memory, is read.
struct GroupQueryAttentionInputs {
  std::array<Tensor, kInputCount> in;
  int64_t batch = 0;
  int64_t sequence = 0;
  int64_t head_size = 0;
  int64_t past_capacity = 0;  // 0 also for an empty past, whose pointer must not be used
  int64_t total_sequence_length = 0;
  int64_t present_capacity = 0;
  int64_t cache_rows = 0;  // of cos_cache and sin_cache
  int64_t cache_width = 0;

  template <typename T>
  T* Data(GroupQueryAttentionInput input) const {
    return in[input].Data<T>();
  }
};

Status ReadGroupQueryAttentionInputs(OpContext& context,
                                     const GroupQueryAttentionAttributes& attributes,
                                     GroupQueryAttentionInputs* inputs);

// Creates the outputs that the node has: output, present_key, present_value, output_qk.
Status CreateGroupQueryAttentionOutputs(OpContext& context,
                                        const GroupQueryAttentionAttributes& attributes,
                                        const GroupQueryAttentionInputs& inputs,
                                        std::array<Tensor, 4>* outputs);

// The op for tensors of those types; accept, contract and create are the device's.
OpDefinition GroupQueryAttentionOp(const std::vector<ElementType>& types);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_GROUP_QUERY_ATTENTION_INPUTS_H_
