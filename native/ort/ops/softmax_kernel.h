// Softmax and LogSoftmax, for any device. Up to version 12 the input is coerced to two dimensions
// at `axis`; from 13 on the softmax runs along `axis` alone.
#ifndef BATCH_INVARIANT_ORT_OPS_SOFTMAX_KERNEL_H_
#define BATCH_INVARIANT_ORT_OPS_SOFTMAX_KERNEL_H_

#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

template <typename Device>
class SoftmaxKernel final : public OpKernel {
 public:
  SoftmaxKernel(const NodeInfo& node, bool coerced)
      : op_(node.OpType()),
        logarithm_(op_ == "LogSoftmax"),
        coerced_(coerced),
        axis_(node.Int("axis", coerced ? 1 : -1)) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, x.shape, &y));
    const int64_t rank = static_cast<int64_t>(x.shape.size());
    const int64_t axis = axis_ < 0 ? axis_ + rank : axis_;
    if (axis < 0 || axis >= rank) {
      return Status::InvalidArgument(op_ + ": axis " + std::to_string(axis_) +
                                     " is outside the input " + ShapeText(x.shape));
    }
    typename Device::Args args;
    args.outer = args.length = args.inner = 1;
    Point(args.x, x);
    Point(args.y, y);
    for (int64_t i = 0; i < rank; ++i) {
      const int64_t d = x.shape[static_cast<size_t>(i)];
      if (i < axis) {
        args.outer *= d;
      } else if (i == axis || coerced_) {
        args.length *= d;
      } else {
        args.inner *= d;
      }
    }
    return Device::Run(context, x.type, logarithm_, args);
  }

 private:
  std::string op_;
  bool logarithm_;
  bool coerced_;
  int64_t axis_;
};

template <typename Device, bool kCoerced>
Status CreateSoftmax(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<SoftmaxKernel<Device>>(node, kCoerced);
  return Status::Ok();
}

template <typename Device>
void AppendSoftmaxOps(std::vector<OpDefinition>& ops) {
  for (const char* name : {"Softmax", "LogSoftmax"}) {
    OpDefinition op{.domain = "",
                    .name = name,
                    .since_first = 1,
                    .since_last = 12,
                    .constraints = {{"T", Device::Types()}},
                    .inputs = {{"T"}},
                    .outputs = {{"T"}},
                    .accept = &AcceptAll,
                    .contract = &Device::Contract,
                    .create = &CreateSoftmax<Device, true>,
                    .may_inplace = {{0, 0}}};
    ops.push_back(op);
    op.since_first = 13;
    op.since_last = 13;
    op.create = &CreateSoftmax<Device, false>;
    ops.push_back(op);
  }
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_SOFTMAX_KERNEL_H_
