// NumPy-style broadcasting: the common shape, and each operand's strides in it.
#ifndef BATCH_INVARIANT_ORT_OPS_BROADCAST_H_
#define BATCH_INVARIANT_ORT_OPS_BROADCAST_H_

#include <algorithm>
#include <array>

#include "ort/ops/op.h"

namespace batch_invariant::ort {

inline constexpr size_t kMostDimensions = 8;

inline Status BroadcastShape(const std::string& op, std::span<const Tensor* const> operands,
                             std::vector<int64_t>* shape) {
  shape->clear();
  for (const Tensor* operand : operands) {
    const auto& own = operand->shape;
    if (own.size() > shape->size()) shape->insert(shape->begin(), own.size() - shape->size(), 1);
    for (size_t i = 0; i < own.size(); ++i) {
      int64_t& dimension = (*shape)[shape->size() - own.size() + i];
      if (dimension == 1) {
        dimension = own[i];
      } else if (own[i] != 1 && own[i] != dimension) {
        return Status::InvalidArgument(op + ": the shapes of its operands do not broadcast: " +
                                       ShapeText(operand->shape) + " into " + ShapeText(*shape));
      }
    }
  }
  return Status::Ok();
}

inline std::vector<int64_t> BroadcastStrides(std::span<const int64_t> own,
                                             std::span<const int64_t> shape) {
  std::vector<int64_t> strides(shape.size(), 0);
  int64_t stride = 1;
  for (size_t i = own.size(); i-- > 0;) {
    const size_t at = shape.size() - own.size() + i;
    strides[at] = own[i] == 1 ? 0 : stride;
    stride *= own[i];
  }
  return strides;
}

// The operands and the output of one call of an op that broadcasts its first inputs to one shape.
template <size_t kOperands>
struct BroadcastCall {
  std::array<Tensor, kOperands> operands;
  std::array<std::vector<int64_t>, kOperands> strides;  // of each operand in `shape`
  std::vector<int64_t> shape;
  Tensor y;

  Status Read(OpContext& context, const std::string& op) {
    std::array<const Tensor*, kOperands> all;
    for (size_t i = 0; i < kOperands; ++i) {
      BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(i, &operands[i]));
      all[i] = &operands[i];
    }
    BATCH_INVARIANT_RETURN_IF_ERROR(BroadcastShape(op, all, &shape));
    for (size_t i = 0; i < kOperands; ++i) strides[i] = BroadcastStrides(operands[i].shape, shape);
    return context.Output(0, shape, &y);
  }
};

inline std::vector<int64_t> ContiguousStrides(std::span<const int64_t> shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_BROADCAST_H_
