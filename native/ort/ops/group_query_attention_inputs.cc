#include "ort/ops/group_query_attention_inputs.h"

#include <algorithm>

namespace batch_invariant::ort {
namespace {

Status Wrong(const char* what, const Tensor& tensor, const std::string& needed) {
  return Status::InvalidArgument(std::string("GroupQueryAttention: ") + what + " is " +
                                 ShapeText(tensor.shape) + ", needed is " + needed);
}

Status ReadShapes(const GroupQueryAttentionAttributes& attributes,
                  GroupQueryAttentionInputs* inputs) {
  const Tensor& query = inputs->in[kQuery];
  if (query.shape.size() != 3) return Wrong("query", query, "[batch, sequence, hidden]");
  const bool packed = !inputs->in[kKey].present;
  if (packed != !inputs->in[kValue].present) {
    return Status::InvalidArgument(
        "GroupQueryAttention: key and value must both be given, or neither (packed QKV)");
  }
  const int64_t heads =
      packed ? attributes.num_heads + 2 * attributes.kv_num_heads : attributes.num_heads;
  if (query.shape[2] % heads != 0) {
    return Wrong("query", query, "a hidden size that " + std::to_string(heads) + " heads divide");
  }
  inputs->batch = query.shape[0];
  inputs->sequence = query.shape[1];
  inputs->head_size = query.shape[2] / heads;
  if (!packed) {
    const std::array<int64_t, 3> needed{inputs->batch, inputs->sequence,
                                        attributes.kv_num_heads * inputs->head_size};
    for (const size_t i : {kKey, kValue}) {
      if (!std::equal(needed.begin(), needed.end(), inputs->in[i].shape.begin(),
                      inputs->in[i].shape.end())) {
        return Wrong(i == kKey ? "key" : "value", inputs->in[i], ShapeText(needed));
      }
    }
  }
  if (!inputs->in[kSeqlensK].present || inputs->in[kSeqlensK].Elements() != inputs->batch) {
    return Wrong("seqlens_k", inputs->in[kSeqlensK], "[" + std::to_string(inputs->batch) + "]");
  }
  // A scalar from the builder's mask subgraph, one element when it is a graph input.
  if (!inputs->in[kTotalSequenceLength].present ||
      inputs->in[kTotalSequenceLength].Elements() < 1) {
    return Wrong("total_sequence_length", inputs->in[kTotalSequenceLength], "a scalar");
  }
  inputs->total_sequence_length = *inputs->in[kTotalSequenceLength].Data<int32_t>();
  return Status::Ok();
}

Status ReadCache(const GroupQueryAttentionAttributes& attributes,
                 GroupQueryAttentionInputs* inputs) {
  if (inputs->in[kPastKey].present != inputs->in[kPastValue].present) {
    return Status::InvalidArgument(
        "GroupQueryAttention: past_key and past_value must both be given, or neither");
  }
  if (!inputs->in[kPastKey].present) return Status::Ok();
  for (const size_t i : {kPastKey, kPastValue}) {
    const auto& shape = inputs->in[i].shape;
    if (shape.size() != 4 || shape[0] != inputs->batch || shape[1] != attributes.kv_num_heads ||
        shape[2] != inputs->in[kPastKey].shape[2] || shape[3] != inputs->head_size) {
      return Wrong(i == kPastKey ? "past_key" : "past_value", inputs->in[i],
                   ShapeText(std::array<int64_t, 4>{
                       inputs->batch, attributes.kv_num_heads,
                       inputs->in[kPastKey].shape.size() == 4 ? inputs->in[kPastKey].shape[2] : 0,
                       inputs->head_size}));
    }
  }
  inputs->past_capacity = inputs->in[kPastKey].shape[2];
  return Status::Ok();
}

Status ReadOptional(const GroupQueryAttentionAttributes& attributes,
                    GroupQueryAttentionInputs* inputs) {
  if (attributes.do_rotary != 0) {
    const Tensor& cos = inputs->in[kCosCache];
    const Tensor& sin = inputs->in[kSinCache];
    if (!cos.present || !sin.present || cos.shape.size() != 2 ||
        !std::equal(cos.shape.begin(), cos.shape.end(), sin.shape.begin(), sin.shape.end())) {
      return Wrong("cos_cache", cos, "[positions, rotary_dim / 2], like sin_cache");
    }
    inputs->cache_rows = cos.shape[0];
    inputs->cache_width = cos.shape[1];
  }
  if (inputs->in[kPositionIds].present) {
    if (inputs->in[kPositionIds].Elements() != inputs->batch * inputs->sequence) {
      return Wrong("position_ids", inputs->in[kPositionIds],
                   ShapeText(std::array<int64_t, 2>{inputs->batch, inputs->sequence}));
    }
  }
  if (const Tensor& bias = inputs->in[kAttentionBias]; bias.present) {
    if (bias.shape.size() != 4 || bias.shape[2] != inputs->sequence) {
      return Wrong("attention_bias", bias, "[batch or 1, num_heads or 1, sequence, total]");
    }
  }
  if (const Tensor& sink = inputs->in[kHeadSink]; sink.present) {
    if (sink.Elements() != attributes.num_heads) {
      return Wrong("head_sink", sink, "[" + std::to_string(attributes.num_heads) + "]");
    }
  }
  if (inputs->in[kQNormWeight].present != inputs->in[kKNormWeight].present) {
    return Status::InvalidArgument(
        "GroupQueryAttention: q_norm_weight and k_norm_weight must both be given, or neither");
  }
  for (const size_t i : {kQNormWeight, kKNormWeight}) {
    if (inputs->in[i].present && inputs->in[i].Elements() != inputs->head_size) {
      return Wrong(i == kQNormWeight ? "q_norm_weight" : "k_norm_weight", inputs->in[i],
                   "[" + std::to_string(inputs->head_size) + "]");
    }
  }
  return Status::Ok();
}

}  // namespace

GroupQueryAttentionAttributes::GroupQueryAttentionAttributes(const NodeInfo& node)
    : num_heads(node.Int("num_heads", 0)),
      kv_num_heads(node.Int("kv_num_heads", 0)),
      scale(node.Float("scale", 0.0f)),
      softcap(node.Float("softcap", 0.0f)),
      local_window_size(node.Int("local_window_size", -1)),
      do_rotary(node.Int("do_rotary", 0)),
      rotary_interleaved(node.Int("rotary_interleaved", 0)),
      smooth_softmax(node.Int("smooth_softmax", -1)),
      causal(node.Int("causal", 1)),
      qk_output(node.Int("qk_output", 0)),
      sliding_window_cache(node.Int("sliding_window_cache", 0)),
      qk_norm_epsilon(node.Float("qk_norm_epsilon", 1e-6f)) {}

Status AcceptGroupQueryAttention(const NodeInfo& node) {
  for (const char* name : {"k_quant_type", "v_quant_type"}) {
    const std::string value = node.String(name, "NONE");
    if (value != "NONE") {
      return Status::Unsupported(std::string("a quantised KV cache (") + name + " = " + value +
                                 ") is not served");
    }
  }
  if (node.HasInput(kKScale) || node.HasInput(kVScale)) {
    return Status::Unsupported("a quantised KV cache (k_scale, v_scale) is not served");
  }
  if (node.Int("kv_cache_bit_width", 0) != 0) {
    return Status::Unsupported("a quantised KV cache (kv_cache_bit_width) is not served");
  }
  if (node.Int("sliding_window_cache", 0) != 0 &&
      (node.Int("local_window_size", -1) <= 0 || node.Int("qk_output", 0) != 0)) {
    return Status::InvalidArgument(
        "sliding_window_cache needs a local_window_size and excludes qk_output");
  }
  if (node.Int("causal", 1) == 0 && node.Int("local_window_size", -1) != -1) {
    return Status::InvalidArgument("local_window_size needs causal = 1");
  }
  if (node.Int("num_heads", 0) <= 0 || node.Int("kv_num_heads", 0) <= 0 ||
      node.Int("num_heads", 0) % node.Int("kv_num_heads", 1) != 0) {
    return Status::InvalidArgument("num_heads must be a positive multiple of kv_num_heads");
  }
  return Status::Ok();
}

Status ReadGroupQueryAttentionInputs(OpContext& context,
                                     const GroupQueryAttentionAttributes& attributes,
                                     GroupQueryAttentionInputs* inputs) {
  for (size_t i = 0; i < inputs->in.size(); ++i) {
    const bool cache = i == kPastKey || i == kPastValue;
    BATCH_INVARIANT_RETURN_IF_ERROR(cache ? context.InputAsIs(i, &inputs->in[i])
                                          : context.Input(i, &inputs->in[i]));
  }
  BATCH_INVARIANT_RETURN_IF_ERROR(ReadShapes(attributes, inputs));
  BATCH_INVARIANT_RETURN_IF_ERROR(ReadCache(attributes, inputs));
  BATCH_INVARIANT_RETURN_IF_ERROR(ReadOptional(attributes, inputs));
  if (attributes.sliding_window_cache != 0) {
    inputs->present_capacity =
        inputs->past_capacity > 0 ? inputs->past_capacity : attributes.local_window_size;
  } else {
    inputs->present_capacity = std::max(inputs->past_capacity, inputs->total_sequence_length);
  }
  return Status::Ok();
}

Status CreateGroupQueryAttentionOutputs(OpContext& context,
                                        const GroupQueryAttentionAttributes& attributes,
                                        const GroupQueryAttentionInputs& inputs,
                                        std::array<Tensor, 4>* outputs) {
  const std::array<int64_t, 3> output{inputs.batch, inputs.sequence,
                                      attributes.num_heads * inputs.head_size};
  const std::array<int64_t, 4> present{inputs.batch, attributes.kv_num_heads,
                                       inputs.present_capacity, inputs.head_size};
  const std::array<int64_t, 4> scores{inputs.batch, attributes.num_heads, inputs.sequence,
                                      inputs.total_sequence_length};
  const std::array<std::span<const int64_t>, 4> shapes{output, present, present, scores};
  for (size_t i = 0; i < shapes.size() && i < context.OutputCount(); ++i) {
    const bool cache = i == 1 || i == 2;
    BATCH_INVARIANT_RETURN_IF_ERROR(cache ? context.OutputAsIs(i, shapes[i], &(*outputs)[i])
                                          : context.Output(i, shapes[i], &(*outputs)[i]));
  }
  return Status::Ok();
}

OpDefinition GroupQueryAttentionOp(const std::vector<ElementType>& types) {
  OpDefinition op;
  op.domain = "com.microsoft";
  op.name = "GroupQueryAttention";
  op.since_first = op.since_last = 1;
  op.constraints = {{"T", types}, {"T_CACHE", types}, {"T_KV_SCALE", {kFloat}}, {"M", {kInt32}}};
  op.inputs = {
      {"T"},       {"T", true}, {"T", true},          {"T_CACHE", true},    {"T_CACHE", true},
      {"M"},       {"M"},       {"T", true},          {"T", true},          {"", true, kInt64},
      {"T", true}, {"T", true}, {"T_KV_SCALE", true}, {"T_KV_SCALE", true}, {"T", true},
      {"T", true}};
  op.outputs = {{"T"}, {"T_CACHE", true}, {"T_CACHE", true}, {"T", true}};
  op.may_inplace = {{3, 1}, {4, 2}};
  op.host_inputs = {6};
  return op;
}

}  // namespace batch_invariant::ort
