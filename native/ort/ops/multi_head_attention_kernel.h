// MultiHeadAttention (com.microsoft), for any device. Every packing of query, key and value is a
// choice of strides.
//
// A device names its Types and its Contract, Accepts a node beyond what every device does, and says
// how to Run.
#ifndef BATCH_INVARIANT_ORT_OPS_MULTI_HEAD_ATTENTION_KERNEL_H_
#define BATCH_INVARIANT_ORT_OPS_MULTI_HEAD_ATTENTION_KERNEL_H_

#include <array>

#include "ort/ops/attention_inputs.h"
#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

template <typename Device>
class MultiHeadAttentionKernel final : public OpKernel {
  enum Input : size_t {
    kQuery,
    kKey,
    kValue,
    kBias,
    kKeyPaddingMask,
    kAttentionBias,
    kPastKey,
    kPastValue,
    kPastSequenceLength,
    kCacheIndirection,
  };
  static constexpr char kName[] = "MultiHeadAttention";

 public:
  explicit MultiHeadAttentionKernel(const NodeInfo& node) {
    attributes_.num_heads = node.Int("num_heads", 0);
    attributes_.scale = node.Float("scale", 0.0f);
    attributes_.mask_filter_value = node.Float("mask_filter_value", -10000.0f);
    attributes_.unidirectional = node.Int("unidirectional", 0) != 0;
    // Without a bias they are fp16 values as they come.
    attributes_.rounds_to_f16 = node.InputType(kQuery) == kFloat16 && node.HasInput(kBias);
  }

  static Status Accept(const NodeInfo& node) {
    if (node.HasInput(kPastSequenceLength)) {
      return Status::Unsupported("the input past_sequence_length is not served");
    }
    if (node.HasInput(kCacheIndirection)) {
      return Status::Unsupported("the input cache_indirection is not served");
    }
    const int64_t heads = node.Int("num_heads", 0);
    if (heads <= 0) return Status::InvalidArgument("num_heads must be positive");
    const bool is_packed = node.InputRank(kQuery) == 5;
    const int64_t width = node.InputWidth(kQuery);
    return Device::Accept(node, is_packed || width < 1 ? width : width / heads);
  }

  Status Compute(OpContext& context) override {
    std::array<Tensor, 8> in;
    for (size_t i = 0; i < in.size(); ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(i, &in[i]));
    }
    MultiHeadAttentionOperands operands = attributes_;
    operands.type = in[kQuery].type;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadOperands(in, &operands));
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadPast(in, &operands));
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadMasks(in, &operands));

    const int64_t batch = operands.batch, heads = operands.num_heads, total = operands.total();
    std::array<Tensor, 4> out;
    const std::array<int64_t, 3> output{batch, operands.sequence, heads * operands.value_size};
    const std::array<int64_t, 4> present_key{batch, heads, total, operands.head_size};
    const std::array<int64_t, 4> present_value{batch, heads, total, operands.value_size};
    const std::array<int64_t, 4> scores{batch, heads, operands.sequence, total};
    const std::array<std::span<const int64_t>, 4> shapes{output, present_key, present_value,
                                                         scores};
    for (size_t i = 0; i < shapes.size() && i < context.OutputCount(); ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(i, shapes[i], &out[i]));
    }
    if (batch == 0) return Status::Ok();
    operands.output = {out[0].data};
    operands.present_key = {out[1].data};
    operands.present_value = {out[2].data};
    operands.output_qk = {out[3].data};
    return Device::Run(context, operands);
  }

 private:
  static Status ReadOperands(const std::array<Tensor, 8>& in, MultiHeadAttentionOperands* args) {
    const Tensor& query = in[kQuery];
    const Tensor& key = in[kKey];
    const Tensor& value = in[kValue];
    const int64_t heads = args->num_heads;
    if (query.shape.size() == 5) {
      if (query.shape[2] != heads || query.shape[3] != 3 || key.present || value.present) {
        return Wrong("query", query, "packed QKV [batch, sequence, num_heads, 3, head_size] alone");
      }
      args->batch = query.shape[0];
      args->sequence = args->kv_sequence = query.shape[1];
      args->head_size = args->value_size = query.shape[4];
      args->query = PlaceTokens(query, args->sequence, heads, args->head_size, 3, 0);
      args->key = PlaceTokens(query, args->sequence, heads, args->head_size, 3, 1);
      args->value = PlaceTokens(query, args->sequence, heads, args->head_size, 3, 2);
      return Status::Ok();
    }
    if (query.shape.size() != 3 || query.shape[2] % heads != 0) {
      return Wrong("query", query, "[batch, sequence, num_heads * head_size]");
    }
    args->batch = query.shape[0];
    args->sequence = query.shape[1];
    args->head_size = query.shape[2] / heads;
    args->query = PlaceTokens(query, args->sequence, heads, args->head_size);
    if (!key.present) return Wrong("key", key, "a tensor, since query holds no packed QKV");
    if (key.shape.size() == 5) {
      if (key.shape[0] != args->batch || key.shape[2] != heads || key.shape[3] != 2 ||
          key.shape[4] != args->head_size || value.present) {
        return Wrong("key", key, "packed KV [batch, kv_sequence, num_heads, 2, head_size]");
      }
      args->kv_sequence = key.shape[1];
      args->value_size = args->head_size;
      args->key = PlaceTokens(key, args->kv_sequence, heads, args->head_size, 2, 0);
      args->value = PlaceTokens(key, args->kv_sequence, heads, args->head_size, 2, 1);
      return Status::Ok();
    }
    if (!value.present || value.shape.size() != key.shape.size()) {
      return Wrong("value", value, "a tensor like key");
    }
    if (key.shape.size() == 4) {
      if (key.shape[0] != args->batch || key.shape[1] != heads || key.shape[3] != args->head_size ||
          value.shape[0] != args->batch || value.shape[1] != heads ||
          value.shape[2] != key.shape[2]) {
        return Wrong("key", key, "[batch, num_heads, kv_sequence, head_size], value likewise");
      }
      args->kv_sequence = key.shape[2];
      args->value_size = value.shape[3];
      args->key = {{key.data},
                   heads * args->kv_sequence * args->head_size,
                   args->kv_sequence * args->head_size,
                   args->head_size};
      args->value = {{value.data},
                     heads * args->kv_sequence * args->value_size,
                     args->kv_sequence * args->value_size,
                     args->value_size};
      return Status::Ok();
    }
    if (key.shape.size() != 3 || key.shape[0] != args->batch ||
        key.shape[2] != heads * args->head_size) {
      return Wrong("key", key, "[batch, kv_sequence, num_heads * head_size]");
    }
    args->kv_sequence = key.shape[1];
    if (value.shape[0] != args->batch || value.shape[1] != args->kv_sequence ||
        value.shape[2] % heads != 0) {
      return Wrong("value", value, "[batch, kv_sequence, num_heads * value_size]");
    }
    args->value_size = value.shape[2] / heads;
    args->key = PlaceTokens(key, args->kv_sequence, heads, args->head_size);
    args->value = PlaceTokens(value, args->kv_sequence, heads, args->value_size);
    return Status::Ok();
  }

  static Status ReadPast(const std::array<Tensor, 8>& in, MultiHeadAttentionOperands* args) {
    const Tensor& past_key = in[kPastKey];
    const Tensor& past_value = in[kPastValue];
    if (past_key.present != past_value.present) {
      return Status::InvalidArgument(
          "MultiHeadAttention: past_key and past_value must both be given, or neither");
    }
    if (!past_key.present) return Status::Ok();
    if (past_key.shape.size() != 4 || past_key.shape[0] != args->batch ||
        past_key.shape[1] != args->num_heads || past_key.shape[3] != args->head_size) {
      return Wrong("past_key", past_key, "[batch, num_heads, past, head_size]");
    }
    if (past_value.shape.size() != 4 || past_value.shape[0] != args->batch ||
        past_value.shape[1] != args->num_heads || past_value.shape[2] != past_key.shape[2] ||
        past_value.shape[3] != args->value_size) {
      return Wrong("past_value", past_value, "[batch, num_heads, past, value_size]");
    }
    args->past_sequence = past_key.shape[2];
    if (args->past_sequence > 0) {
      args->past_key = {past_key.data};
      args->past_value = {past_value.data};
    }
    return Status::Ok();
  }

  static Status ReadMasks(const std::array<Tensor, 8>& in, MultiHeadAttentionOperands* args) {
    const int64_t hidden = args->num_heads * args->head_size;
    if (const Tensor& bias = in[kBias]; bias.present) {
      if (bias.Elements() != 2 * hidden + args->num_heads * args->value_size) {
        return Wrong("bias", bias, "[hidden + hidden + v_hidden]");
      }
      args->query_bias = {bias.data, 0};
      args->key_bias = {bias.data, hidden};
      args->value_bias = {bias.data, 2 * hidden};
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(
        ReadKeyMask(kName, "key_padding_mask", in[kKeyPaddingMask], args));
    return ReadAttentionBias(kName, in[kAttentionBias], args);
  }

  static Status Wrong(const char* what, const Tensor& tensor, const char* needed) {
    return WrongShape(kName, what, tensor, needed);
  }

  MultiHeadAttentionOperands attributes_;
};

template <typename Device>
Status CreateMultiHeadAttention(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<MultiHeadAttentionKernel<Device>>(node);
  return Status::Ok();
}

template <typename Device>
void AppendMultiHeadAttentionOps(std::vector<OpDefinition>& ops) {
  const std::vector<ElementType> types = Device::Types();
  ops.push_back({.domain = "com.microsoft",
                 .name = "MultiHeadAttention",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", types}, {"QK", types}, {"M", {kInt32}}},
                 .inputs = {{"T"},
                            {"T", true},
                            {"T", true},
                            {"T", true},
                            {"M", true},
                            {"T", true},
                            {"T", true},
                            {"T", true},
                            {"M", true},
                            {"M", true}},
                 .outputs = {{"T"}, {"T", true}, {"T", true}, {"QK", true}},
                 .accept = &MultiHeadAttentionKernel<Device>::Accept,
                 .contract = &Device::Contract,
                 .create = &CreateMultiHeadAttention<Device>});
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_MULTI_HEAD_ATTENTION_KERNEL_H_
