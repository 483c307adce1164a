// Attention of opsets 23 and 24 on the CPU.
#include <algorithm>
#include <array>

#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/attention.h"
#include "ort/ops/element_types.h"
#include "ort/ops/half.h"
#include "ort/ops/op_table.h"

namespace batch_invariant::ort {
namespace {

enum Input : size_t { kQuery, kKey, kValue, kMask, kPastKey, kPastValue, kNonpadKvSeqlen };

constexpr ElementType kBool = ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
constexpr ElementType kBfloat16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;

Status Accept(const NodeInfo& node) {
  // The softmax is one of float32, which has what the narrower types ask for.
  const int64_t precision = node.Int("softmax_precision", kFloat);
  if (precision != kFloat && precision != kFloat16 && precision != kBfloat16) {
    return Status::Unsupported("softmax_precision " + std::to_string(precision) +
                               " is not served, only 1 (float32) and below");
  }
  if (node.HasInput(kNonpadKvSeqlen) && (node.HasInput(kPastKey) || node.HasInput(kPastValue))) {
    return Status::InvalidArgument("nonpad_kv_seqlen and a past exclude each other");
  }
  return Status::Ok();
}

Status Wrong(const char* what, const Tensor& tensor, const char* needed) {
  return Status::InvalidArgument(std::string("Attention: ") + what + " is " +
                                 ShapeText(tensor.shape) + ", needed is " + needed);
}

// The sizes of [batch, heads, tokens, size], or of [batch, tokens, heads * size] with `heads`
// given.
struct Heads {
  int64_t batch = 0;
  int64_t heads = 0;
  int64_t tokens = 0;
  int64_t size = 0;
  bool is_4d = false;

  template <typename View>
  View Place() const {
    View view;
    view.batch_stride = heads * tokens * size;
    view.head_stride = is_4d ? tokens * size : size;
    view.token_stride = is_4d ? size : heads * size;
    return view;
  }
};

Status ReadHeads(const char* what, const Tensor& tensor, int64_t heads, Heads* read) {
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

class OnnxAttentionKernel final : public OpKernel {
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

  Status Compute(OpContext& context) override {
    std::array<Tensor, 7> in;
    for (size_t i = 0; i < in.size(); ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(i, &in[i]));
    }
    cpu::OnnxAttentionArgs args = attributes_;
    Heads query;
    BATCH_INVARIANT_RETURN_IF_ERROR(ReadHeads("Q", in[kQuery], args.q_num_heads, &query));
    BATCH_INVARIANT_RETURN_IF_ERROR(ViewOperands(in, query, &args));
    BATCH_INVARIANT_RETURN_IF_ERROR(ViewPast(in, &args));
    const cpu::Context cpu = context.Cpu();
    BATCH_INVARIANT_RETURN_IF_ERROR(ViewMask(cpu, in, &args));

    const int64_t total = args.past_sequence + args.kv_sequence;
    Heads output = query;
    output.size = args.value_size;
    std::vector<int64_t> y_shape{args.batch, args.sequence, args.q_num_heads * args.value_size};
    if (query.is_4d) y_shape = {args.batch, args.q_num_heads, args.sequence, args.value_size};
    const std::array<int64_t, 4> present_key{args.batch, args.kv_num_heads, total, args.head_size};
    const std::array<int64_t, 4> present_value{args.batch, args.kv_num_heads, total,
                                               args.value_size};
    const std::array<int64_t, 4> scores{args.batch, args.q_num_heads, args.sequence, total};
    const std::array<std::span<const int64_t>, 4> shapes{y_shape, present_key, present_value,
                                                         scores};
    std::array<Tensor, 4> out;
    for (size_t i = 0; i < shapes.size() && i < context.OutputCount(); ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(i, shapes[i], &out[i]));
    }
    if (args.batch == 0) return Status::Ok();
    args.output = output.Place<cpu::MutableHeadView>();
    Point(args.output.data, out[0]);
    Point(args.present_key, out[1]);
    Point(args.present_value, out[2]);
    Point(args.qk_matmul_output, out[3]);
    return cpu::OnnxAttentionF32(cpu, args);
  }

 private:
  static Status ViewOperands(const std::array<Tensor, 7>& in, const Heads& query,
                             cpu::OnnxAttentionArgs* args) {
    Heads key;
    Heads value;
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
    args->query = query.Place<cpu::HeadView>();
    args->key = key.Place<cpu::HeadView>();
    args->value = value.Place<cpu::HeadView>();
    Point(args->query.data, in[kQuery]);
    Point(args->key.data, in[kKey]);
    Point(args->value.data, in[kValue]);
    return Status::Ok();
  }

  static Status ViewPast(const std::array<Tensor, 7>& in, cpu::OnnxAttentionArgs* args) {
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
      Point(args->past_key, past_key);
      Point(args->past_value, past_value);
    }
    return Status::Ok();
  }

  // Each element `keys` times, one after the other.
  template <typename T>
  static Status Repeat(const cpu::Context& cpu, const Tensor& mask, int64_t keys, const T** repeated) {
    const int64_t elements = mask.Elements();
    auto* to = static_cast<T*>(cpu.scratch.allocate(
        cpu.scratch.self, sizeof(T) * static_cast<size_t>(elements * keys + 1)));
    if (to == nullptr) return Status::OutOfMemory("Attention: no memory for the mask");
    *repeated = to;
    for (int64_t i = 0; i < elements; ++i) to = std::fill_n(to, keys, mask.Data<T>()[i]);
    return Status::Ok();
  }

  // Broadcasts to [batch, q_num_heads, sequence, total]. From opset 24 on the keys may be fewer,
  // and a mask of one column is such a one; in opset 23 its column is that of every key.
  Status ViewMask(const cpu::Context& cpu, const std::array<Tensor, 7>& in,
                  cpu::OnnxAttentionArgs* args) const {
    const Tensor& mask = in[kMask];
    if (!mask.present) return Status::Ok();
    const int64_t total = args->past_sequence + args->kv_sequence;
    std::array<int64_t, 4> shape{1, 1, 1, 1};
    if (mask.shape.empty() || mask.shape.size() > 4) {
      return Wrong("attn_mask", mask, "1 to 4 dimensions");
    }
    std::copy(mask.shape.begin(), mask.shape.end(), shape.end() - mask.shape.size());
    if ((shape[0] != 1 && shape[0] != args->batch) ||
        (shape[1] != 1 && shape[1] != args->q_num_heads) ||
        (shape[2] != 1 && shape[2] != args->sequence) ||
        (mask_may_be_short_ ? shape[3] > total : shape[3] != total && shape[3] != 1)) {
      return Wrong("attn_mask", mask, "a shape that broadcasts to [batch, heads, sequence, total]");
    }
    const bool repeat = !mask_may_be_short_ && shape[3] != total;
    if (repeat) shape[3] = total;
    args->mask_keys = shape[3];
    args->mask_query_stride = shape[2] == 1 ? 0 : shape[3];
    args->mask_head_stride = shape[1] == 1 ? 0 : shape[2] * shape[3];
    args->mask_batch_stride = shape[0] == 1 ? 0 : shape[1] * shape[2] * shape[3];
    if (repeat) {
      return mask.type == kBool ? Repeat(cpu, mask, total, &args->bool_mask)
                                : Repeat(cpu, mask, total, &args->float_mask);
    }
    if (mask.type == kBool) {
      Point(args->bool_mask, mask);
    } else {
      Point(args->float_mask, mask);
    }
    return Status::Ok();
  }

  const bool mask_may_be_short_;
  cpu::OnnxAttentionArgs attributes_;
};

Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<OnnxAttentionKernel>(node);
  return Status::Ok();
}

}  // namespace

void AppendOnnxAttention(std::vector<OpDefinition>& ops) {
  OpDefinition op{.domain = "",
                  .name = "Attention",
                  .since_first = 23,
                  .since_last = 23,
                  .constraints = {{"T1", kCpuFloats}, {"T2", kCpuFloats}, {"U", {kFloat, kFloat16, kBool}}},
                  .inputs = {{"T1"}, {"T1"}, {"T2"}, {"U", true}, {"T1", true}, {"T2", true}},
                  .outputs = {{"T1"}, {"T1", true}, {"T2", true}, {"T1", true}},
                  .accept = &Accept,
                  .contract = [](const NodeInfo&) { return contract::kAttentionF32; },
                  .create = &Create,
                  // A mask of one column is repeated for every key; later it is a short mask.
                  .custom_name = "Attention23"};
  ops.push_back(op);
  op.custom_name = nullptr;
  op.since_first = op.since_last = 24;
  op.inputs.push_back({"", true, kInt64});
  ops.push_back(op);
}

}  // namespace batch_invariant::ort
