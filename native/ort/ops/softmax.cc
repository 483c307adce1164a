// Softmax and LogSoftmax. Up to version 12 the input is coerced to two dimensions at `axis`; from
// 13 on the softmax runs along `axis` alone.
#include "batch_invariant/cpu/softmax.h"

#include "batch_invariant/contract.h"
#include "ort/ops/op_table.h"

namespace batch_invariant::ort {
namespace {

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
    cpu::SoftmaxArgs args{
        .outer = 1, .length = 1, .inner = 1, .x = x.Data<float>(), .y = y.Data<float>()};
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
    return logarithm_ ? cpu::LogSoftmaxF32(context.Cpu(), args)
                      : cpu::SoftmaxF32(context.Cpu(), args);
  }

 private:
  std::string op_;
  bool logarithm_;
  bool coerced_;
  int64_t axis_;
};

template <bool kCoerced>
Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<SoftmaxKernel>(node, kCoerced);
  return Status::Ok();
}

}  // namespace

void AppendSoftmax(std::vector<OpDefinition>& ops) {
  for (const char* name : {"Softmax", "LogSoftmax"}) {
    OpDefinition op{.domain = "",
                    .name = name,
                    .since_first = 1,
                    .since_last = 12,
                    .constraints = {{"T", {kFloat}}},
                    .inputs = {{"T"}},
                    .outputs = {{"T"}},
                    .accept = &AcceptAll,
                    .contract = [](const NodeInfo&) { return contract::kSoftmaxF32; },
                    .create = &Create<true>,
                    .may_inplace = {{0, 0}}};
    ops.push_back(op);
    op.since_first = 13;
    op.since_last = 13;
    op.create = &Create<false>;
    ops.push_back(op);
  }
}

}  // namespace batch_invariant::ort
