// Ops of one tensor and element by element, for any device.
#ifndef BATCH_INVARIANT_ORT_OPS_UNARY_KERNEL_H_
#define BATCH_INVARIANT_ORT_OPS_UNARY_KERNEL_H_

#include "ort/ops/op_table.h"

namespace batch_invariant::ort {

template <typename Device>
class UnaryKernel final : public OpKernel {
 public:
  using Op = typename Device::Op;

  UnaryKernel(Op op, float alpha, std::string name)
      : op_(op), alpha_(alpha), name_(std::move(name)) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor bias;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &bias));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, x.shape, &y));
    typename Device::Args args;
    args.op = op_;
    args.alpha = alpha_;
    args.rows = 1;
    args.width = x.Elements();
    if (bias.present) {
      args.width = bias.Elements();
      if (x.shape.empty() || x.shape.back() != args.width) {
        return Status::InvalidArgument(name_ + ": bias is " + ShapeText(bias.shape) +
                                       ", which does not fit the input " + ShapeText(x.shape));
      }
      args.rows = args.width == 0 ? 0 : x.Elements() / args.width;
    }
    Point(args.x, x);
    Point(args.bias, bias);
    Point(args.y, y);
    return Device::Run(context, x.type, args);
  }

 private:
  Op op_;
  float alpha_;
  std::string name_;
};

template <typename Device, auto kOp>
Status CreateUnary(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<UnaryKernel<Device>>(kOp, node.Float("alpha", 1.702f), node.OpType());
  return Status::Ok();
}

template <typename Device>
Status CreateOnnxGelu(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  const bool tanh = node.String("approximate", "none") == "tanh";
  *kernel = std::make_unique<UnaryKernel<Device>>(tanh ? Device::Op::kGeluTanh : Device::Op::kGelu,
                                                  0.0f, node.OpType());
  return Status::Ok();
}

template <typename Device>
OpDefinition UnaryDefinition(const char* domain, const char* name, int since_first, int since_last,
                             decltype(OpDefinition::create) create) {
  return {.domain = domain,
          .name = name,
          .since_first = since_first,
          .since_last = since_last,
          .constraints = {{"T", Device::Types()}},
          .inputs = {{"T"}},
          .outputs = {{"T"}},
          .accept = &AcceptAll,
          .contract = &Device::Contract,
          .create = create,
          .may_inplace = {{0, 0}}};
}

// The activations that a stock kernel may compute differently in the tail of a vector.
template <typename Device>
void AppendActivationOps(std::vector<OpDefinition>& ops) {
  using Op = typename Device::Op;
  const auto add = [&](const char* domain, const char* name, int first, int last,
                       decltype(OpDefinition::create) create) -> OpDefinition& {
    return ops.emplace_back(UnaryDefinition<Device>(domain, name, first, last, create));
  };
  add("", "Sigmoid", 6, 13, &CreateUnary<Device, Op::kSigmoid>);
  add("", "Tanh", 6, 13, &CreateUnary<Device, Op::kTanh>);
  add("", "Erf", 9, 13, &CreateUnary<Device, Op::kErf>);
  add("", "Exp", 6, 13, &CreateUnary<Device, Op::kExp>);
  add("", "Gelu", 20, 20, &CreateOnnxGelu<Device>);
  add("com.microsoft", "Gelu", 1, 1, &CreateUnary<Device, Op::kGelu>).custom_name =
      "MicrosoftGelu";
  add("com.microsoft", "QuickGelu", 1, 1, &CreateUnary<Device, Op::kQuickGelu>);
  add("com.microsoft", "FastGelu", 1, 1, &CreateUnary<Device, Op::kGeluTanh>)
      .inputs.push_back({"T", true});
  add("com.microsoft", "BiasGelu", 1, 1, &CreateUnary<Device, Op::kGelu>).inputs.push_back({"T"});
}

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_OPS_UNARY_KERNEL_H_
