#include "ort/ops/attention_inputs.h"

namespace batch_invariant::ort {

HeadPlace PlaceTokens(const Tensor& tensor, int64_t tokens, int64_t heads, int64_t size,
                      int64_t parts, int64_t part) {
  return {{tensor.data, part * size},
          tokens * heads * parts * size,
          parts * size,
          heads * parts * size};
}

Status WrongShape(const std::string& op, const char* what, const Tensor& tensor,
                  const char* needed) {
  return Status::InvalidArgument(op + ": " + what + " is " + ShapeText(tensor.shape) +
                                 ", needed is " + needed);
}

Status ReadKeyMask(const std::string& op, const char* what, const Tensor& mask,
                   MultiHeadAttentionOperands* operands) {
  if (!mask.present) return Status::Ok();
  const auto& shape = mask.shape;
  const int64_t batch = operands->batch, total = operands->total();
  if (shape.size() == 1 && (shape[0] == batch || shape[0] == 3 * batch + 2)) {
    operands->mask_form = MaskForm::kLengths;
  } else if (shape.size() == 2 && shape[0] == batch && shape[1] == total) {
    operands->mask_form = MaskForm::kKeys;
  } else if (shape.size() == 3 && shape[0] == batch && shape[1] == operands->sequence &&
             shape[2] == total) {
    operands->mask_form = MaskForm::kQueries;
  } else {
    return WrongShape(op, what, mask,
                      "[batch], [3 * batch + 2], [batch, total] or [batch, sequence, total]");
  }
  Point(operands->mask, mask);
  return Status::Ok();
}

Status ReadAttentionBias(const std::string& op, const Tensor& bias,
                         MultiHeadAttentionOperands* operands) {
  if (!bias.present) return Status::Ok();
  const auto& shape = bias.shape;
  if (shape.size() != 4 || (shape[0] != 1 && shape[0] != operands->batch) ||
      (shape[1] != 1 && shape[1] != operands->num_heads) || shape[2] != operands->sequence ||
      shape[3] != operands->total()) {
    return WrongShape(op, "attention_bias", bias, "[batch or 1, num_heads or 1, sequence, total]");
  }
  operands->attention_bias = {bias.data, 0};
  operands->bias_batch = shape[0];
  operands->bias_heads = shape[1];
  return Status::Ok();
}

}  // namespace batch_invariant::ort
