// RotaryEmbedding of com.microsoft (position_ids second) and of opset 23 (caches second), for any
// device.
#ifndef BATCH_INVARIANT_ORT_OPS_ROTARY_EMBEDDING_KERNEL_H_
#define BATCH_INVARIANT_ORT_OPS_ROTARY_EMBEDDING_KERNEL_H_

#include <algorithm>
#include <array>

#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

// is_packed_batching says only that there may be more tokens than positions.
inline Status AcceptMicrosoftRotaryEmbedding(const NodeInfo& node) {
  if (node.Float("scale", 1.0f) != 1.0f) {
    return Status::Unsupported("the attribute scale is not served, only 1.0");
  }
  return Status::Ok();
}

template <typename Device>
class RotaryEmbeddingKernel final : public OpKernel {
 public:
  RotaryEmbeddingKernel(const NodeInfo& node, bool is_onnx)
      : is_onnx_(is_onnx),
        interleaved_(node.Int("interleaved", 0) != 0),
        num_heads_(node.Int("num_heads", 0)),
        rotary_dim_(node.Int("rotary_embedding_dim", 0)) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor cos;
    Tensor sin;
    Tensor positions;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(is_onnx_ ? 1 : 2, &cos));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(is_onnx_ ? 2 : 3, &sin));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(is_onnx_ ? 3 : 1, &positions));
    if (cos.shape.size() < 2 ||
        !std::equal(cos.shape.begin(), cos.shape.end(), sin.shape.begin(), sin.shape.end())) {
      return Status::InvalidArgument("RotaryEmbedding: the caches are " + ShapeText(cos.shape) +
                                     " and " + ShapeText(sin.shape) +
                                     ", needed are two of [positions, rotary_dim / 2]");
    }
    typename Device::Args args;
    BATCH_INVARIANT_RETURN_IF_ERROR(ViewInput(x, cos.shape.back(), &args));
    BATCH_INVARIANT_RETURN_IF_ERROR(ViewPositions(positions, cos, &args));
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, x.shape, &y));
    if (y.Elements() == 0) return Status::Ok();
    args.interleaved = interleaved_;
    Point(args.x, x);
    Point(args.y, y);
    Point(args.cos_cache, cos);
    Point(args.sin_cache, sin);
    return Device::Run(context, x.type, args);
  }

 private:
  // [batch, tokens, heads * head_size] or [batch, heads, tokens, head_size].
  Status ViewInput(const Tensor& x, int64_t cache_width, typename Device::Args* args) const {
    if (x.shape.size() == 4) {
      args->heads = x.shape[1];
      args->tokens = x.shape[2];
      args->head_size = x.shape[3];
    } else if (x.shape.size() == 3) {
      const int64_t hidden = x.shape[2];
      args->tokens = x.shape[1];
      if (num_heads_ > 0 && hidden % num_heads_ == 0) {
        args->head_size = hidden / num_heads_;
      } else if (num_heads_ == 0 && !is_onnx_ && rotary_dim_ == 0) {
        args->head_size = 2 * cache_width;
      }
      if (args->head_size == 0 || hidden % args->head_size != 0) {
        return Status::InvalidArgument("RotaryEmbedding: the input " + ShapeText(x.shape) +
                                       " does not divide into heads, set num_heads");
      }
      args->heads = hidden / args->head_size;
    } else {
      return Status::InvalidArgument("RotaryEmbedding: the input is " + ShapeText(x.shape) +
                                     ", needed are 3 or 4 dimensions");
    }
    args->batch = x.shape[0];
    args->rotary_dim = rotary_dim_ > 0 ? rotary_dim_ : args->head_size;
    if (args->rotary_dim != 2 * cache_width) {
      return Status::InvalidArgument("RotaryEmbedding: the caches hold " +
                                     std::to_string(cache_width) + " angles, needed are " +
                                     std::to_string(args->rotary_dim / 2));
    }
    args->x_batch = args->y_batch = args->heads * args->tokens * args->head_size;
    if (x.shape.size() == 4) {
      args->x_head = args->y_head = args->tokens * args->head_size;
      args->x_token = args->y_token = args->head_size;
    } else {
      args->x_head = args->y_head = args->head_size;
      args->x_token = args->y_token = args->heads * args->head_size;
    }
    return Status::Ok();
  }

  Status ViewPositions(const Tensor& positions, const Tensor& cos,
                       typename Device::Args* args) const {
    args->cache_rows = cos.Elements() / std::max<int64_t>(1, cos.shape.back());
    if (!positions.present) {
      args->positions = Device::Positions::kDirect;
      if (cos.shape.size() == 3 && args->cache_rows == args->batch * args->tokens) {
        return Status::Ok();
      }
      return Status::InvalidArgument(
          "RotaryEmbedding: without position_ids the caches must be " +
          ShapeText(std::array<int64_t, 3>{args->batch, args->tokens, args->rotary_dim / 2}) +
          ", they are " + ShapeText(cos.shape));
    }
    const bool one = !is_onnx_ && positions.Elements() == 1;
    if (!one && positions.Elements() != args->batch * args->tokens) {
      return Status::InvalidArgument("RotaryEmbedding: position_ids are " +
                                     ShapeText(positions.shape) + ", needed are " +
                                     ShapeText(std::array<int64_t, 2>{args->batch, args->tokens}));
    }
    args->positions = one ? Device::Positions::kOffset : Device::Positions::kPerToken;
    args->position_ids = positions.Data<int64_t>();
    return Status::Ok();
  }

  bool is_onnx_;
  bool interleaved_;
  int64_t num_heads_;
  int64_t rotary_dim_;
};

template <typename Device, bool kIsOnnx>
Status CreateRotaryEmbedding(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<RotaryEmbeddingKernel<Device>>(node, kIsOnnx);
  return Status::Ok();
}

template <typename Device>
void AppendRotaryEmbeddingOps(std::vector<OpDefinition>& ops) {
  ops.push_back({.domain = "com.microsoft",
                 .name = "RotaryEmbedding",
                 .since_first = 1,
                 .since_last = 1,
                 .constraints = {{"T", Device::Types()}, {"M", {kInt64}}},
                 .inputs = {{"T"}, {"M"}, {"T"}, {"T"}},
                 .outputs = {{"T"}},
                 .accept = &AcceptMicrosoftRotaryEmbedding,
                 .contract = &Device::Contract,
                 .create = &CreateRotaryEmbedding<Device, false>,
                 .custom_name = "MicrosoftRotaryEmbedding"});
  ops.push_back({.domain = "",
                 .name = "RotaryEmbedding",
                 .since_first = 23,
                 .since_last = 23,
                 .constraints = {{"T", Device::Types()}, {"M", {kInt64}}},
                 .inputs = {{"T"}, {"T"}, {"T"}, {"M", true}},
                 .outputs = {{"T"}},
                 .accept = &AcceptAll,
                 .contract = &Device::Contract,
                 .create = &CreateRotaryEmbedding<Device, true>});
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_ROTARY_EMBEDDING_KERNEL_H_
