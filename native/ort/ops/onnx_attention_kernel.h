// Attention of opsets 23 and 24, for any device.
//
// A device names its Types, its MaskTypes and its Contract, Accepts a node beyond what every device
// does, and says how to Run.
#ifndef BATCH_INVARIANT_ORT_OPS_ONNX_ATTENTION_KERNEL_H_
#define BATCH_INVARIANT_ORT_OPS_ONNX_ATTENTION_KERNEL_H_

#include <algorithm>
#include <array>

#include "ort/ops/attention_inputs.h"
#include "ort/ops/element_types.h"
#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

// One call of the op, its shapes checked against each other.
struct OnnxAttentionOperands {
  ElementType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
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
  int64_t qk_matmul_output_mode = 0;
  // Inputs. The 3-D and 4-D layouts differ in their strides only.
  HeadPlace query, key, value;
  void* past_key = nullptr;    // [batch, kv_num_heads, past_sequence, head_size]
  void* past_value = nullptr;  // [batch, kv_num_heads, past_sequence, value_size]
  // Element (b, h, t, j) lies at b * mask_batch_stride + h * mask_head_stride + t *
  // mask_query_stride + j, or, where it repeats, has one column. Keys from mask_keys on are
  // excluded.
  void* mask = nullptr;
  ElementType mask_type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  int64_t mask_batch_stride = 0, mask_head_stride = 0, mask_query_stride = 0;
  int64_t mask_keys = 0;
  bool mask_repeats = false;
  const int64_t* nonpad_kv_seqlen = nullptr;  // [batch], opset 24, not with a past
  // Outputs.
  HeadPlace output;
  void* present_key = nullptr;
  void* present_value = nullptr;
  void* qk_matmul_output = nullptr;

  int64_t total() const { return past_sequence + kv_sequence; }
};

// The sizes of [batch, heads, tokens, size], or of [batch, tokens, heads * size] with `heads`
// given.
struct AttentionHeads {
  int64_t batch = 0;
  int64_t heads = 0;
  int64_t tokens = 0;
  int64_t size = 0;
  bool is_4d = false;

  HeadPlace At(void* data) const {
    return {
        {data}, heads * tokens * size, is_4d ? tokens * size : size, is_4d ? size : heads * size};
  }
};

template <typename Device>
class OnnxAttentionKernel final : public OpKernel {
  enum Input : size_t { kQuery, kKey, kValue, kMask, kPastKey, kPastValue, kNonpadKvSeqlen };

 public:
  explicit OnnxAttentionKernel(const NodeInfo& node)
      : mask_may_be_short_(node.SinceVersion() >= 24) {
    attributes_.q_num_heads = node.Int("q_num_heads", 0);
    attributes_.kv_num_heads = node.Int("kv_num_heads", 0);
    attributes_.is_causal = node.Int("is_causal", 0) != 0;
    attributes_.scale = node.Float("scale", 0.0f);
    attributes_.softcap = node.Float("softcap", 0.0f);
    attributes_.qk_matmul_output_mode = node.Int("qk_matmul_output_mode", 0);
  }

  static Status Accept(const NodeInfo& node) {
    // The softmax is one of float32, which has what the narrower types ask for.
    const int64_t precision = node.Int("softmax_precision", kFloat);
    if (precision != kFloat && precision != kFloat16 &&
        precision != ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16) {
      return Status::Unsupported("softmax_precision " + std::to_string(precision) +
                                 " is not served, only 1 (float32) and below");
    }
    if (node.HasInput(kNonpadKvSeqlen) && (node.HasInput(kPastKey) || node.HasInput(kPastValue))) {
      return Status::InvalidArgument("nonpad_kv_seqlen and a past exclude each other");
    }
    const int64_t width = node.InputWidth(kQuery);
    const int64_t heads = node.Int("q_num_heads", 0);
    const bool is_4d = node.InputRank(kQuery) == 4;
    return Device::Accept(node, is_4d || width < 1 ? width : heads > 0 ? width / heads : -1);
  }

  Status Compute(OpContext& context) override {
    std::array<Tensor, 7> in;
    for (size_t i = 0; i < in.size(); ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(i, &in[i]));
    }
    OnnxAttentionOperands operands = attributes_;
    operands.type = in[kQuery].type;
    AttentionHeads query;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadHeads("Q", in[kQuery], operands.q_num_heads, &query));
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadOperands(in, query, &operands));
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadPast(in, &operands));
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadMask(in, &operands));

    const int64_t batch = operands.batch, total = operands.total();
    const int64_t heads = operands.q_num_heads, kv_heads = operands.kv_num_heads;
    AttentionHeads output = query;
    output.size = operands.value_size;
    std::vector<int64_t> y_shape{batch, operands.sequence, heads * operands.value_size};
    if (query.is_4d) y_shape = {batch, heads, operands.sequence, operands.value_size};
    const std::array<int64_t, 4> present_key{batch, kv_heads, total, operands.head_size};
    const std::array<int64_t, 4> present_value{batch, kv_heads, total, operands.value_size};
    const std::array<int64_t, 4> scores{batch, heads, operands.sequence, total};
    const std::array<std::span<const int64_t>, 4> shapes{y_shape, present_key, present_value,
                                                         scores};
    std::array<Tensor, 4> out;
    for (size_t i = 0; i < shapes.size() && i < context.OutputCount(); ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(i, shapes[i], &out[i]));
    }
    if (batch == 0) return Status::Ok();
    operands.output = output.At(out[0].data);
    operands.present_key = out[1].data;
    operands.present_value = out[2].data;
    operands.qk_matmul_output = out[3].data;
    return Device::Run(context, operands);
  }

 private:
  static Status Wrong(const char* what, const Tensor& tensor, const char* needed) {
    return WrongShape("Attention", what, tensor, needed);
  }

  static Status ReadHeads(const char* what, const Tensor& tensor, int64_t heads,
                          AttentionHeads* read) {
    const auto& shape = tensor.shape;
    if (shape.size() == 4) {
      *read = {shape[0], shape[1], shape[2], shape[3], true};
      return Status::Ok();
    }
    if (shape.size() == 3 && heads > 0 && shape[2] % heads == 0) {
      *read = {shape[0], heads, shape[1], shape[2] / heads, false};
      return Status::Ok();
    }
    return Wrong(what, tensor, "4 dimensions, or 3 with the number of heads as an attribute");
  }

  static Status ReadOperands(const std::array<Tensor, 7>& in, const AttentionHeads& query,
                             OnnxAttentionOperands* args) {
    AttentionHeads key;
    AttentionHeads value;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadHeads("K", in[kKey], args->kv_num_heads, &key));
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadHeads("V", in[kValue], args->kv_num_heads, &value));
    if (key.batch != query.batch || value.batch != query.batch || value.heads != key.heads ||
        value.tokens != key.tokens || key.size != query.size || key.heads == 0 ||
        query.heads % key.heads != 0) {
      return Wrong("K", in[kKey], "a tensor whose batch, heads and head size go with Q and V");
    }
    args->batch = query.batch;
    args->sequence = query.tokens;
    args->kv_sequence = key.tokens;
    args->head_size = query.size;
    args->value_size = value.size;
    args->q_num_heads = query.heads;
    args->kv_num_heads = key.heads;
    args->query = query.At(in[kQuery].data);
    args->key = key.At(in[kKey].data);
    args->value = value.At(in[kValue].data);
    return Status::Ok();
  }

  static Status ReadPast(const std::array<Tensor, 7>& in, OnnxAttentionOperands* args) {
    const Tensor& past_key = in[kPastKey];
    const Tensor& past_value = in[kPastValue];
    if (past_key.present != past_value.present) {
      return Status::InvalidArgument(
          "Attention: past_key and past_value must both be given, or neither");
    }
    if (const Tensor& lengths = in[kNonpadKvSeqlen]; lengths.present) {
      if (lengths.Elements() != args->batch) return Wrong("nonpad_kv_seqlen", lengths, "[batch]");
      Point(args->nonpad_kv_seqlen, lengths);
    }
    if (!past_key.present) return Status::Ok();
    const auto fits = [&](const Tensor& past, int64_t size) {
      return past.shape.size() == 4 && past.shape[0] == args->batch &&
             past.shape[1] == args->kv_num_heads && past.shape[2] == past_key.shape[2] &&
             past.shape[3] == size;
    };
    if (past_key.shape.size() != 4 || !fits(past_key, args->head_size)) {
      return Wrong("past_key", past_key, "[batch, kv_num_heads, past, head_size]");
    }
    if (!fits(past_value, args->value_size)) {
      return Wrong("past_value", past_value, "[batch, kv_num_heads, past, value_size]");
    }
    args->past_sequence = past_key.shape[2];
    if (args->past_sequence > 0) {
      args->past_key = past_key.data;
      args->past_value = past_value.data;
    }
    return Status::Ok();
  }

  // Broadcasts to [batch, q_num_heads, sequence, total]. From opset 24 on the keys may be fewer,
  // and a mask of one column is such a one; in opset 23 its column is that of every key.
  Status ReadMask(const std::array<Tensor, 7>& in, OnnxAttentionOperands* operands) const {
    const Tensor& mask = in[kMask];
    if (!mask.present) return Status::Ok();
    const int64_t total = operands->past_sequence + operands->kv_sequence;
    std::array<int64_t, 4> shape{1, 1, 1, 1};
    if (mask.shape.empty() || mask.shape.size() > 4) {
      return Wrong("attn_mask", mask, "1 to 4 dimensions");
    }
    std::copy(mask.shape.begin(), mask.shape.end(), shape.end() - mask.shape.size());
    if ((shape[0] != 1 && shape[0] != operands->batch) ||
        (shape[1] != 1 && shape[1] != operands->q_num_heads) ||
        (shape[2] != 1 && shape[2] != operands->sequence) ||
        (mask_may_be_short_ ? shape[3] > total : shape[3] != total && shape[3] != 1)) {
      return Wrong("attn_mask", mask, "a shape that broadcasts to [batch, heads, sequence, total]");
    }
    operands->mask = mask.data;
    operands->mask_type = mask.type;
    operands->mask_repeats = !mask_may_be_short_ && shape[3] != total;
    operands->mask_keys = operands->mask_repeats ? total : shape[3];
    operands->mask_query_stride = shape[2] == 1 ? 0 : shape[3];
    operands->mask_head_stride = shape[1] == 1 ? 0 : shape[2] * shape[3];
    operands->mask_batch_stride = shape[0] == 1 ? 0 : shape[1] * shape[2] * shape[3];
    return Status::Ok();
  }

  const bool mask_may_be_short_;
  OnnxAttentionOperands attributes_;
};

template <typename Device>
Status CreateOnnxAttention(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<OnnxAttentionKernel<Device>>(node);
  return Status::Ok();
}

template <typename Device>
void AppendOnnxAttentionOps(std::vector<OpDefinition>& ops) {
  OpDefinition op{
      .domain = "",
      .name = "Attention",
      .since_first = 23,
      .since_last = 23,
      .constraints = {{"T1", Device::Types()}, {"T2", Device::Types()}, {"U", Device::MaskTypes()}},
      .inputs = {{"T1"}, {"T1"}, {"T2"}, {"U", true}, {"T1", true}, {"T2", true}},
      .outputs = {{"T1"}, {"T1", true}, {"T2", true}, {"T1", true}},
      .accept = &OnnxAttentionKernel<Device>::Accept,
      .contract = &Device::Contract,
      .create = &CreateOnnxAttention<Device>,
      // A mask of one column is repeated for every key; later it is a short mask.
      .custom_name = "Attention23"};
  ops.push_back(op);
  op.custom_name = nullptr;
  op.since_first = op.since_last = 24;
  op.inputs.push_back({"", true, kInt64});
  ops.push_back(op);
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_ONNX_ATTENTION_KERNEL_H_
