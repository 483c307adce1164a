// GroupQueryAttention (com.microsoft): the attention of the decoders that GenAI's model builder
// writes.
#include <algorithm>
#include <array>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/attention.h"
#include "ort/ops/op_table.h"

namespace batch_invariant::ort {
namespace {

enum Input : size_t {
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
};

Status Accept(const NodeInfo& node) {
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
  if (node.Int("sliding_window_cache", 0) != 0) {
    return Status::Unsupported("the attribute sliding_window_cache is not served");
  }
  if (node.Int("num_heads", 0) <= 0 || node.Int("kv_num_heads", 0) <= 0 ||
      node.Int("num_heads", 0) % node.Int("kv_num_heads", 1) != 0) {
    return Status::InvalidArgument("num_heads must be a positive multiple of kv_num_heads");
  }
  return Status::Ok();
}

Status Wrong(const char* what, const Tensor& tensor, const std::string& needed) {
  return Status::InvalidArgument(std::string("GroupQueryAttention: ") + what + " is " +
                                 ShapeText(tensor.shape) + ", needed is " + needed);
}

class GroupQueryAttentionKernel final : public OpKernel {
 public:
  explicit GroupQueryAttentionKernel(const NodeInfo& node) {
    attributes_.num_heads = node.Int("num_heads", 0);
    attributes_.kv_num_heads = node.Int("kv_num_heads", 0);
    attributes_.scale = node.Float("scale", 0.0f);
    attributes_.softcap = node.Float("softcap", 0.0f);
    attributes_.local_window_size = node.Int("local_window_size", -1);
    attributes_.do_rotary = node.Int("do_rotary", 0);
    attributes_.rotary_interleaved = node.Int("rotary_interleaved", 0);
    attributes_.smooth_softmax = node.Int("smooth_softmax", -1);
    attributes_.causal = node.Int("causal", 1);
    attributes_.qk_output = node.Int("qk_output", 0);
    attributes_.qk_norm_epsilon = node.Float("qk_norm_epsilon", 1e-6f);
  }

  Status Compute(OpContext& context) override {
    std::array<Tensor, 16> in;
    for (size_t i = 0; i < in.size(); ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(i, &in[i]));
    }
    cpu::GroupQueryAttentionArgs args = attributes_;
    BATCH_INVARIANT_RETURN_IF_ERROR(ViewShapes(in, &args));
    BATCH_INVARIANT_RETURN_IF_ERROR(ViewCache(in, &args));
    BATCH_INVARIANT_RETURN_IF_ERROR(ViewOptional(in, &args));

    args.present_capacity = cpu::PresentCapacity(args.past_capacity, args.total_sequence_length);
    std::array<Tensor, 4> outputs;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(
        0, {args.batch, args.sequence, args.num_heads * args.head_size}, &outputs[0]));
    for (size_t i = 1; i < outputs.size() && i < context.OutputCount(); ++i) {
      if (i < 3) {
        BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(
            i, {args.batch, args.kv_num_heads, args.present_capacity, args.head_size},
            &outputs[i]));
      } else {
        BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(
            i, {args.batch, args.num_heads, args.sequence, args.total_sequence_length},
            &outputs[i]));
      }
    }
    args.output = outputs[0].Data<float>();
    args.present_key = outputs[1].Data<float>();
    args.present_value = outputs[2].Data<float>();
    args.output_qk = outputs[3].Data<float>();
    return cpu::GroupQueryAttentionF32(context.Cpu(), args);
  }

 private:
  static Status ViewShapes(const std::array<Tensor, 16>& in, cpu::GroupQueryAttentionArgs* args) {
    const Tensor& query = in[kQuery];
    if (query.shape.size() != 3) return Wrong("query", query, "[batch, sequence, hidden]");
    const bool packed = !in[kKey].present;
    if (packed != !in[kValue].present) {
      return Status::InvalidArgument(
          "GroupQueryAttention: key and value must both be given, or neither (packed QKV)");
    }
    const int64_t heads = packed ? args->num_heads + 2 * args->kv_num_heads : args->num_heads;
    if (query.shape[2] % heads != 0) {
      return Wrong("query", query, "a hidden size that " + std::to_string(heads) + " heads divide");
    }
    args->batch = query.shape[0];
    args->sequence = query.shape[1];
    args->head_size = query.shape[2] / heads;
    args->query = query.Data<float>();
    if (!packed) {
      const std::array<int64_t, 3> needed{args->batch, args->sequence,
                                          args->kv_num_heads * args->head_size};
      for (const size_t i : {kKey, kValue}) {
        if (!std::equal(needed.begin(), needed.end(), in[i].shape.begin(), in[i].shape.end())) {
          return Wrong(i == kKey ? "key" : "value", in[i], ShapeText(needed));
        }
      }
      args->key = in[kKey].Data<float>();
      args->value = in[kValue].Data<float>();
    }
    if (!in[kSeqlensK].present || in[kSeqlensK].Elements() != args->batch) {
      return Wrong("seqlens_k", in[kSeqlensK], "[" + std::to_string(args->batch) + "]");
    }
    // A scalar from the builder's mask subgraph, one element when it is a graph input.
    if (!in[kTotalSequenceLength].present || in[kTotalSequenceLength].Elements() < 1) {
      return Wrong("total_sequence_length", in[kTotalSequenceLength], "a scalar");
    }
    args->seqlens_k = in[kSeqlensK].Data<int32_t>();
    args->total_sequence_length = *in[kTotalSequenceLength].Data<int32_t>();
    return Status::Ok();
  }

  static Status ViewCache(const std::array<Tensor, 16>& in, cpu::GroupQueryAttentionArgs* args) {
    if (in[kPastKey].present != in[kPastValue].present) {
      return Status::InvalidArgument(
          "GroupQueryAttention: past_key and past_value must both be given, or neither");
    }
    if (!in[kPastKey].present) return Status::Ok();
    for (const size_t i : {kPastKey, kPastValue}) {
      const auto& shape = in[i].shape;
      if (shape.size() != 4 || shape[0] != args->batch || shape[1] != args->kv_num_heads ||
          shape[2] != in[kPastKey].shape[2] || shape[3] != args->head_size) {
        return Wrong(
            i == kPastKey ? "past_key" : "past_value", in[i],
            ShapeText(std::array<int64_t, 4>{
                args->batch, args->kv_num_heads,
                in[kPastKey].shape.size() == 4 ? in[kPastKey].shape[2] : 0, args->head_size}));
      }
    }
    args->past_capacity = in[kPastKey].shape[2];
    // An empty past has no memory behind its pointer.
    if (args->past_capacity > 0) {
      args->past_key = in[kPastKey].Data<float>();
      args->past_value = in[kPastValue].Data<float>();
    }
    return Status::Ok();
  }

  static Status ViewOptional(const std::array<Tensor, 16>& in, cpu::GroupQueryAttentionArgs* args) {
    if (args->do_rotary != 0) {
      const Tensor& cos = in[kCosCache];
      const Tensor& sin = in[kSinCache];
      if (!cos.present || !sin.present || cos.shape.size() != 2 ||
          !std::equal(cos.shape.begin(), cos.shape.end(), sin.shape.begin(), sin.shape.end())) {
        return Wrong("cos_cache", cos, "[positions, rotary_dim / 2], like sin_cache");
      }
      args->cos_cache = cos.Data<float>();
      args->sin_cache = sin.Data<float>();
      args->cache_rows = cos.shape[0];
      args->cache_width = cos.shape[1];
    }
    if (in[kPositionIds].present) {
      if (in[kPositionIds].Elements() != args->batch * args->sequence) {
        return Wrong("position_ids", in[kPositionIds],
                     ShapeText(std::array<int64_t, 2>{args->batch, args->sequence}));
      }
      args->position_ids = in[kPositionIds].Data<int64_t>();
    }
    if (const Tensor& bias = in[kAttentionBias]; bias.present) {
      if (bias.shape.size() != 4 || bias.shape[2] != args->sequence) {
        return Wrong("attention_bias", bias, "[batch or 1, num_heads or 1, sequence, total]");
      }
      args->attention_bias = bias.Data<float>();
      args->bias_batch = bias.shape[0];
      args->bias_heads = bias.shape[1];
      args->bias_keys = bias.shape[3];
    }
    if (const Tensor& sink = in[kHeadSink]; sink.present) {
      if (sink.Elements() != args->num_heads) {
        return Wrong("head_sink", sink, "[" + std::to_string(args->num_heads) + "]");
      }
      args->head_sink = sink.Data<float>();
    }
    if (in[kQNormWeight].present != in[kKNormWeight].present) {
      return Status::InvalidArgument(
          "GroupQueryAttention: q_norm_weight and k_norm_weight must both be given, or neither");
    }
    for (const size_t i : {kQNormWeight, kKNormWeight}) {
      if (in[i].present && in[i].Elements() != args->head_size) {
        return Wrong(i == kQNormWeight ? "q_norm_weight" : "k_norm_weight", in[i],
                     "[" + std::to_string(args->head_size) + "]");
      }
    }
    args->q_norm_weight = in[kQNormWeight].Data<float>();
    args->k_norm_weight = in[kKNormWeight].Data<float>();
    return Status::Ok();
  }

  cpu::GroupQueryAttentionArgs attributes_;
};

Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<GroupQueryAttentionKernel>(node);
  return Status::Ok();
}

}  // namespace

void AppendGroupQueryAttention(std::vector<OpDefinition>& ops) {
  ops.push_back({.domain = "com.microsoft",
                 .name = "GroupQueryAttention",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", {kFloat}},
                                 {"T_CACHE", {kFloat}},
                                 {"T_KV_SCALE", {kFloat}},
                                 {"M", {kInt32}}},
                 .inputs = {{"T"},
                            {"T", true},
                            {"T", true},
                            {"T_CACHE", true},
                            {"T_CACHE", true},
                            {"M"},
                            {"M"},
                            {"T", true},
                            {"T", true},
                            {"", true, kInt64},
                            {"T", true},
                            {"T", true},
                            {"T_KV_SCALE", true},
                            {"T_KV_SCALE", true},
                            {"T", true},
                            {"T", true}},
                 .outputs = {{"T"}, {"T_CACHE", true}, {"T_CACHE", true}, {"T", true}},
                 .accept = &Accept,
                 .contract = [](const NodeInfo&) { return contract::kAttentionF32; },
                 .create = &Create,
                 .may_inplace = {{3, 1}, {4, 2}},
                 .host_inputs = {6}});
}

}  // namespace batch_invariant::ort
