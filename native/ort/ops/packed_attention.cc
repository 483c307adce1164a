// Attention of com.microsoft on the CPU: the projection of the input to query, key and value (a
// Gemm with the merged weights and the bias), then MultiHeadAttention over strided views of it.
#include <algorithm>
#include <array>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/matmul.h"
#include "ort/ops/attention_inputs.h"
#include "ort/ops/half.h"
#include "ort/ops/op_table.h"
#include "ort/ops/weights.h"

namespace batch_invariant::ort {
namespace {

enum Input : size_t {
  kInput,
  kWeights,
  kBias,
  kMaskIndex,
  kPast,
  kAttentionBias,
  kPastSequenceLength,
};

constexpr char kName[] = "Attention";

Status Wrong(const char* what, const Tensor& tensor, const char* needed) {
  return WrongShape(kName, what, tensor, needed);
}

Status Accept(const NodeInfo& node) {
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
  if (sizes.empty()) return Status::Ok();
  bool fit = sizes.size() == 3 && sizes[0] == sizes[1];
  for (const int64_t size : sizes) fit = fit && size > 0 && size % heads == 0;
  if (fit) return Status::Ok();
  return Status::InvalidArgument(
      "qkv_hidden_sizes must be three multiples of num_heads, the first two alike");
}

class PackedAttentionKernel final : public OpKernel {
 public:
  explicit PackedAttentionKernel(const NodeInfo& node)
      : hidden_sizes_(node.Ints("qkv_hidden_sizes")) {
    attributes_.num_heads = node.Int("num_heads", 0);
    attributes_.scale = node.Float("scale", 0.0f);
    attributes_.mask_filter_value = node.Float("mask_filter_value", -10000.0f);
    attributes_.unidirectional = node.Int("unidirectional", 0) != 0;
    attributes_.rounds_to_f16 = node.InputType(kInput) == kFloat16;
  }

  Status Prepack(size_t input, const Tensor& tensor, bool* packed) override {
    *packed = false;
    if (input != kWeights || tensor.shape.size() != 2 || tensor.Elements() == 0) {
      return Status::Ok();
    }
    packed_ = AllocateWeights(cpu::PackedMatMulBytes(tensor.shape[0], tensor.shape[1]));
    BATCH_INVARIANT_RETURN_IF_ERROR(cpu::PackMatMul(
        PackingContext(), tensor.shape[0], tensor.shape[1],
        {tensor.Data<float>(), tensor.shape[1], 1}, reinterpret_cast<float*>(packed_.get())));
    packed_shape_ = {tensor.shape[0], tensor.shape[1]};
    *packed = true;
    return Status::Ok();
  }

  Status Compute(OpContext& context) override {
    std::array<Tensor, kPastSequenceLength> in;
    for (size_t i = 0; i < in.size(); ++i) {
      if (i == kWeights && packed_) continue;
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(i, &in[i]));
    }
    const cpu::Context cpu = context.Cpu();
    cpu::MultiHeadAttentionArgs args = attributes_;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadShapes(in, &args));
    BATCH_INVARIANT_RETURN_IF_ERROR(ViewMask(cpu, in[kMaskIndex], &args));
    BATCH_INVARIANT_RETURN_IF_ERROR(ViewAttentionBias(kName, in[kAttentionBias], &args));

    const int64_t total = args.past_sequence + args.kv_sequence;
    Tensor output;
    Tensor present;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(
        0, {args.batch, args.sequence, args.num_heads * args.value_size}, &output));
    if (context.OutputCount() > 1) {
      if (args.value_size != args.head_size) {
        return Status::InvalidArgument(
            "Attention: present holds keys and values of one size, qkv_hidden_sizes has two");
      }
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(
          1, {2, args.batch, args.num_heads, total, args.head_size}, &present));
    }
    if (args.batch == 0) return Status::Ok();
    BATCH_INVARIANT_RETURN_IF_ERROR(Project(cpu, in, &args));
    Point(args.output, output);
    if (present.present) {
      args.present_key = present.Data<float>();
      args.present_value =
          args.present_key + args.batch * args.num_heads * total * args.head_size;
      args.present_capacity = total;
    }
    return cpu::MultiHeadAttentionF32(cpu, args);
  }

 private:
  std::span<const int64_t> WeightShape(const Tensor& weights) const {
    return packed_ ? std::span<const int64_t>(packed_shape_) : weights.shape;
  }

  Status ReadShapes(const std::array<Tensor, kPastSequenceLength>& in,
                    cpu::MultiHeadAttentionArgs* args) const {
    const Tensor& input = in[kInput];
    const std::span<const int64_t> weights = WeightShape(in[kWeights]);
    if (input.shape.size() != 3) return Wrong("input", input, "[batch, sequence, input_hidden]");
    const int64_t heads = args->num_heads;
    const int64_t columns = weights.size() == 2 ? weights[1] : -1;
    const int64_t hidden = hidden_sizes_.empty() ? columns / 3 : hidden_sizes_[0];
    const int64_t value_hidden = hidden_sizes_.empty() ? columns / 3 : hidden_sizes_[2];
    if (columns <= 0 || weights[0] != input.shape[2] || 2 * hidden + value_hidden != columns ||
        hidden % heads != 0 || value_hidden % heads != 0) {
      return Status::InvalidArgument(
          "Attention: weights is " + ShapeText(weights) + ", needed is [" +
          std::to_string(input.shape[2]) +
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
    args->past_sequence = args->past_capacity = past.shape[3];
    if (past.Elements() > 0) {
      args->past_key = past.Data<const float>();
      args->past_value = args->past_key + past.Elements() / 2;
    }
    return Status::Ok();
  }

  // The forms beside those of MultiHeadAttention: ends and starts, one value for all keys, and the
  // square masks of which a query has the row of its own position.
  static Status ViewMask(const cpu::Context& cpu, const Tensor& mask,
                         cpu::MultiHeadAttentionArgs* args) {
    if (!mask.present) return Status::Ok();
    const auto& shape = mask.shape;
    const int64_t total = args->past_sequence + args->kv_sequence;
    if (shape.size() == 1 && shape[0] == 2 * args->batch) {
      args->key_mask = cpu::KeyMask::kEndStart;
      Point(args->mask, mask);
      return Status::Ok();
    }
    const bool one_column = shape.size() == 2 && shape[1] == 1 &&
                            (shape[0] == args->batch || shape[0] == 1);
    if (one_column && !(total == 1 && shape[0] == args->batch)) return Status::Ok();
    if (shape.size() != 4) return ViewKeyMask(kName, "mask_index", mask, args);

    const int64_t side = shape[3];
    if (shape[0] != args->batch || shape[1] != 1 || shape[2] != side || side < total) {
      return Wrong("mask_index", mask, "[batch, 1, max_sequence, max_sequence]");
    }
    if (args->unidirectional) {
      return Status::InvalidArgument("Attention: a square mask_index excludes unidirectional");
    }
    const int64_t rows = args->batch * args->sequence;
    auto* cut = static_cast<int32_t*>(cpu.scratch.allocate(
        cpu.scratch.self, sizeof(int32_t) * static_cast<size_t>(rows * total + 1)));
    if (cut == nullptr) return Status::OutOfMemory("Attention: no memory for the mask");
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t position = args->past_sequence + r % args->sequence;
      const int32_t* row =
          mask.Data<int32_t>() + (r / args->sequence * side + position) * side;
      std::copy(row, row + total, cut + r * total);
    }
    args->key_mask = cpu::KeyMask::kQueries;
    args->mask = cut;
    return Status::Ok();
  }

  Status Project(const cpu::Context& cpu, const std::array<Tensor, kPastSequenceLength>& in,
                 cpu::MultiHeadAttentionArgs* args) const {
    const std::span<const int64_t> weights = WeightShape(in[kWeights]);
    const int64_t columns = weights[1];
    const int64_t tokens = args->batch * args->sequence;
    auto* projected = static_cast<float*>(cpu.scratch.allocate(
        cpu.scratch.self, sizeof(float) * static_cast<size_t>(tokens * columns + 1)));
    if (projected == nullptr) return Status::OutOfMemory("Attention: no memory for the projection");
    cpu::MatMulArgs matmul;
    matmul.m = tokens;
    matmul.k = weights[0];
    matmul.n = columns;
    matmul.a = {in[kInput].Data<float>(), matmul.k, 1};
    if (packed_) {
      matmul.packed_b = reinterpret_cast<const float*>(packed_.get());
    } else {
      matmul.b = {in[kWeights].Data<float>(), columns, 1};
    }
    if (in[kBias].present) matmul.c = {in[kBias].Data<float>(), 0, 1};
    matmul.y = projected;
    matmul.y_row_stride = columns;
    BATCH_INVARIANT_RETURN_IF_ERROR(cpu::MatMul(cpu, matmul));

    const int64_t hidden = args->num_heads * args->head_size;
    const int64_t row = args->sequence * columns;
    args->query = {projected, row, args->head_size, columns};
    args->key = {projected + hidden, row, args->head_size, columns};
    args->value = {projected + 2 * hidden, row, args->value_size, columns};
    return Status::Ok();
  }

  const std::vector<int64_t> hidden_sizes_;
  cpu::MultiHeadAttentionArgs attributes_;
  Weights packed_;
  std::array<int64_t, 2> packed_shape_{};
};

Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<PackedAttentionKernel>(node);
  return Status::Ok();
}

}  // namespace

void AppendPackedAttention(std::vector<OpDefinition>& ops) {
  ops.push_back({.domain = "com.microsoft",
                 .name = kName,
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", kCpuFloats}, {"M", {kInt32}}},
                 .inputs = {{"T"},
                            {"T"},
                            {"T", true},
                            {"M", true},
                            {"T", true},
                            {"T", true},
                            {"M", true}},
                 .outputs = {{"T"}, {"T", true}},
                 .accept = &Accept,
                 .contract = [](const NodeInfo&) { return contract::kAttentionF32; },
                 .create = &Create,
                 .custom_name = "MicrosoftAttention"});
}

}  // namespace batch_invariant::ort
