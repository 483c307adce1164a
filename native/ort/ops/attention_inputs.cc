#include "ort/ops/attention_inputs.h"

namespace batch_invariant::ort {

cpu::HeadView ViewTokens(const float* data, int64_t tokens, int64_t heads, int64_t size,
                         int64_t parts, int64_t part) {
  return {data + part * size, tokens * heads * parts * size, parts * size, heads * parts * size};
}

Status WrongShape(const std::string& op, const char* what, const Tensor& tensor,
                  const char* needed) {
  return Status::InvalidArgument(op + ": " + what + " is " + ShapeText(tensor.shape) +
                                 ", needed is " + needed);
}

Status ViewKeyMask(const std::string& op, const char* what, const Tensor& mask,
                   cpu::MultiHeadAttentionArgs* args) {
  if (!mask.present) return Status::Ok();
  const auto& shape = mask.shape;
  const int64_t total = args->past_sequence + args->kv_sequence;
  if (shape.size() == 1 && (shape[0] == args->batch || shape[0] == 3 * args->batch + 2)) {
    args->key_mask = cpu::KeyMask::kLengths;
  } else if (shape.size() == 2 && shape[0] == args->batch && shape[1] == total) {
    args->key_mask = cpu::KeyMask::kKeys;
  } else if (shape.size() == 3 && shape[0] == args->batch && shape[1] == args->sequence &&
             shape[2] == total) {
    args->key_mask = cpu::KeyMask::kQueries;
  } else {
    return WrongShape(op, what, mask,
                      "[batch], [3 * batch + 2], [batch, total] or [batch, sequence, total]");
  }
  Point(args->mask, mask);
  return Status::Ok();
}

Status ViewAttentionBias(const std::string& op, const Tensor& bias,
                         cpu::MultiHeadAttentionArgs* args) {
  if (!bias.present) return Status::Ok();
  const auto& shape = bias.shape;
  if (shape.size() != 4 || (shape[0] != 1 && shape[0] != args->batch) ||
      (shape[1] != 1 && shape[1] != args->num_heads) || shape[2] != args->sequence ||
      shape[3] != args->past_sequence + args->kv_sequence) {
    return WrongShape(op, "attention_bias", bias,
                      "[batch or 1, num_heads or 1, sequence, total]");
  }
  Point(args->attention_bias, bias);
  args->bias_batch = shape[0];
  args->bias_heads = shape[1];
  return Status::Ok();
}

}  // namespace batch_invariant::ort
