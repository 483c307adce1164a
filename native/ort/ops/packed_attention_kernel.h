// Attention of com.microsoft, for any device: the projection of the input to query, key and value
// (a Gemm with the merged weights and the bias), then MultiHeadAttention over strided views of it.
//
// A device names its Types and its Contract, Accepts a node beyond what every device does, has a
// Projection and says how to Run.
#ifndef BATCH_INVARIANT_ORT_OPS_PACKED_ATTENTION_KERNEL_H_
#define BATCH_INVARIANT_ORT_OPS_PACKED_ATTENTION_KERNEL_H_

#include <algorithm>
#include <array>

#include "ort/ops/attention_inputs.h"
#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

// input [tokens, k] times weights [k, columns], plus a bias of the columns where there is one.
struct ProjectionInputs {
  int64_t tokens, k, columns;
  Tensor input, weights, bias;  // weights absent where they were packed
};

template <typename Device>
class PackedAttentionKernel final : public OpKernel {
  enum Input : size_t {
    kInput,
    kWeights,
    kBias,
    kMaskIndex,
    kPast,
    kAttentionBias,
    kPastSequenceLength,
  };

  static constexpr char kName[] = "Attention";

 public:
  explicit PackedAttentionKernel(const NodeInfo& node)
      : hidden_sizes_(node.Ints("qkv_hidden_sizes")) {
    attributes_.num_heads = node.Int("num_heads", 0);
    attributes_.scale = node.Float("scale", 0.0f);
    attributes_.mask_filter_value = node.Float("mask_filter_value", -10000.0f);
    attributes_.unidirectional = node.Int("unidirectional", 0) != 0;
    attributes_.rounds_to_f16 = node.InputType(kInput) == kFloat16;
  }

  static Status Accept(const NodeInfo& node) {
    if (node.Int("do_rotary", 0) != 0) {
      return Status::Unsupported(
          "do_rotary is not served (nor by ONNX Runtime on CPUs): use RotaryEmbedding and "
          "MultiHeadAttention");
    }
    if (node.Int("past_present_share_buffer", 0) != 0 || node.HasInput(kPastSequenceLength)) {
      return Status::Unsupported(
          "a past that shares its buffer with present is not served (nor by ONNX Runtime on CPUs)");
    }
    const int64_t heads = node.Int("num_heads", 0);
    if (heads <= 0) return Status::InvalidArgument("num_heads must be positive");
    const std::vector<int64_t> sizes = node.Ints("qkv_hidden_sizes");
    if (sizes.empty()) {
      const int64_t columns = node.InputWidth(kWeights);
      return Device::Accept(node, columns < 1 ? columns : columns / 3 / heads);
    }
    bool fit = sizes.size() == 3 && sizes[0] == sizes[1];
    for (const int64_t size : sizes) fit = fit && size > 0 && size % heads == 0;
    if (fit) return Device::Accept(node, std::max(sizes[0], sizes[2]) / heads);
    return Status::InvalidArgument(
        "qkv_hidden_sizes must be three multiples of num_heads, the first two alike");
  }

  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    if (input != kWeights || tensor.shape.size() != 2 || tensor.Elements() == 0) {
      return Status::Ok();
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(projection_.Pack(device(), tensor));
    packed_shape_ = {tensor.shape[0], tensor.shape[1]};
    *packed = true;
    return Status::Ok();
  }

  Status Compute(OpContext& context) override {
    std::array<Tensor, kPastSequenceLength> in;
    for (size_t i = 0; i < in.size(); ++i) {
      if (i == kWeights && packed_shape_[0] > 0) continue;
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(i, &in[i]));
    }
    MultiHeadAttentionOperands operands = attributes_;
    operands.type = in[kInput].type;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadShapes(in, &operands));
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadMask(in[kMaskIndex], &operands));
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadAttentionBias(kName, in[kAttentionBias], &operands));

    const int64_t total = operands.total();
    Tensor output;
    Tensor present;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(
        0, {operands.batch, operands.sequence, operands.num_heads * operands.value_size}, &output));
    if (context.OutputCount() > 1) {
      if (operands.value_size != operands.head_size) {
        return Status::InvalidArgument(
            "Attention: present holds keys and values of one size, qkv_hidden_sizes has two");
      }
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(
          1, {2, operands.batch, operands.num_heads, total, operands.head_size}, &present));
    }
    if (operands.batch == 0) return Status::Ok();
    operands.output = {output.data};
    if (present.present) {
      operands.present_key = {present.data};
      operands.present_value = {present.data,
                                operands.batch * operands.num_heads * total * operands.head_size};
    }
    const std::span<const int64_t> weights = WeightShape(in[kWeights]);
    const int64_t columns = weights[1];
    const int64_t hidden = operands.num_heads * operands.head_size;
    const int64_t row = operands.sequence * columns;
    // Where they are is for the device to say.
    operands.query = {{nullptr, 0}, row, operands.head_size, columns};
    operands.key = {{nullptr, hidden}, row, operands.head_size, columns};
    operands.value = {{nullptr, 2 * hidden}, row, operands.value_size, columns};
    return projection_.Run(context,
                           {operands.batch * operands.sequence, weights[0], columns, in[kInput],
                            in[kWeights], in[kBias]},
                           &operands);
  }

 private:
  std::span<const int64_t> WeightShape(const Tensor& weights) const {
    return packed_shape_[0] > 0 ? std::span<const int64_t>(packed_shape_) : weights.shape;
  }

  Status ReadShapes(const std::array<Tensor, kPastSequenceLength>& in,
                    MultiHeadAttentionOperands* args) const {
    const Tensor& input = in[kInput];
    const std::span<const int64_t> weights = WeightShape(in[kWeights]);
    if (input.shape.size() != 3) return Wrong("input", input, "[batch, sequence, input_hidden]");
    const int64_t heads = args->num_heads;
    const int64_t columns = weights.size() == 2 ? weights[1] : -1;
    const int64_t hidden = hidden_sizes_.empty() ? columns / 3 : hidden_sizes_[0];
    const int64_t value_hidden = hidden_sizes_.empty() ? columns / 3 : hidden_sizes_[2];
    if (columns <= 0 || weights[0] != input.shape[2] || 2 * hidden + value_hidden != columns ||
        hidden % heads != 0 || value_hidden % heads != 0) {
      return Status::InvalidArgument("Attention: weights is " + ShapeText(weights) +
                                     ", needed is [" + std::to_string(input.shape[2]) +
                                     ", hidden + hidden + v_hidden] with multiples of num_heads");
    }
    args->batch = input.shape[0];
    args->sequence = args->kv_sequence = input.shape[1];
    args->head_size = hidden / heads;
    args->value_size = value_hidden / heads;
    if (const Tensor& bias = in[kBias]; bias.present && bias.Elements() != columns) {
      return Wrong("bias", bias, "[hidden + hidden + v_hidden]");
    }
    const Tensor& past = in[kPast];
    if (!past.present) return Status::Ok();
    if (past.shape.size() != 5 || past.shape[0] != 2 || past.shape[1] != args->batch ||
        past.shape[2] != heads || past.shape[4] != args->head_size ||
        args->value_size != args->head_size) {
      return Wrong("past", past, "[2, batch, num_heads, past, head_size]");
    }
    args->past_sequence = past.shape[3];
    if (past.Elements() > 0) {
      args->past_key = {past.data};
      args->past_value = {past.data, past.Elements() / 2};
    }
    return Status::Ok();
  }

  // The forms beside those of MultiHeadAttention: ends and starts, one value for all keys, and the
  // square masks of which a query has the row of its own position.
  static Status ReadMask(const Tensor& mask, MultiHeadAttentionOperands* operands) {
    if (!mask.present) return Status::Ok();
    const auto& shape = mask.shape;
    const int64_t batch = operands->batch, total = operands->total();
    if (shape.size() == 1 && shape[0] == 2 * batch) {
      operands->mask_form = MaskForm::kEndStart;
      Point(operands->mask, mask);
      return Status::Ok();
    }
    const bool one_column =
        shape.size() == 2 && shape[1] == 1 && (shape[0] == batch || shape[0] == 1);
    if (one_column && !(total == 1 && shape[0] == batch)) return Status::Ok();
    if (shape.size() != 4) return ReadKeyMask(kName, "mask_index", mask, operands);

    const int64_t side = shape[3];
    if (shape[0] != batch || shape[1] != 1 || shape[2] != side || side < total) {
      return Wrong("mask_index", mask, "[batch, 1, max_sequence, max_sequence]");
    }
    if (operands->unidirectional) {
      return Status::InvalidArgument("Attention: a square mask_index excludes unidirectional");
    }
    operands->mask_form = MaskForm::kSquare;
    operands->mask_side = side;
    Point(operands->mask, mask);
    return Status::Ok();
  }

  static Status Wrong(const char* what, const Tensor& tensor, const char* needed) {
    return WrongShape(kName, what, tensor, needed);
  }

  const std::vector<int64_t> hidden_sizes_;
  MultiHeadAttentionOperands attributes_;
  typename Device::Projection projection_;
  std::array<int64_t, 2> packed_shape_{};
};

template <typename Device>
Status CreatePackedAttention(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<PackedAttentionKernel<Device>>(node);
  return Status::Ok();
}

template <typename Device>
void AppendPackedAttentionOps(std::vector<OpDefinition>& ops) {
  ops.push_back(
      {.domain = "com.microsoft",
       .name = "Attention",
       .since_first = 1,
       .since_last = 1,
       .constraints = {{"T", Device::Types()}, {"M", {kInt32}}},
       .inputs = {{"T"}, {"T"}, {"T", true}, {"M", true}, {"T", true}, {"T", true}, {"M", true}},
       .outputs = {{"T"}, {"T", true}},
       .accept = &PackedAttentionKernel<Device>::Accept,
       .contract = &Device::Contract,
       .create = &CreatePackedAttention<Device>,
       .custom_name = "MicrosoftAttention"});
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_PACKED_ATTENTION_KERNEL_H_
