// Activations whose stock kernels treat the tail of a vector differently from its body.
#include "batch_invariant/cpu/elementwise.h"

#include "batch_invariant/contract.h"
#include "ort/ops/op_table.h"

namespace batch_invariant::ort {
namespace {

class UnaryKernel final : public OpKernel {
 public:
  UnaryKernel(cpu::UnaryOp op, float alpha, std::string name)
      : op_(op), alpha_(alpha), name_(std::move(name)) {}

  Status Compute(OpContext& context) override {
    Tensor x;
    Tensor bias;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(0, &x));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(1, &bias));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, x.shape, &y));
    cpu::UnaryArgs args;
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
    args.x = x.Data<float>();
    args.bias = bias.Data<float>();
    args.y = y.Data<float>();
    return cpu::UnaryF32(context.Cpu(), args);
  }

 private:
  cpu::UnaryOp op_;
  float alpha_;
  std::string name_;
};

template <cpu::UnaryOp kOp>
Status Create(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  *kernel = std::make_unique<UnaryKernel>(kOp, node.Float("alpha", 1.702f), node.OpType());
  return Status::Ok();
}

Status CreateOnnxGelu(const NodeInfo& node, std::unique_ptr<OpKernel>* kernel) {
  const bool tanh = node.String("approximate", "none") == "tanh";
  *kernel = std::make_unique<UnaryKernel>(tanh ? cpu::UnaryOp::kGeluTanh : cpu::UnaryOp::kGelu,
                                          0.0f, node.OpType());
  return Status::Ok();
}

const char* Contract(const NodeInfo&) { return contract::kElementwiseF32; }

OpDefinition Unary(const char* domain, const char* name, int since_first, int since_last,
                   decltype(OpDefinition::create) create) {
  return {.domain = domain,
          .name = name,
          .since_first = since_first,
          .since_last = since_last,
          .constraints = {{"T", {kFloat}}},
          .inputs = {{"T"}},
          .outputs = {{"T"}},
          .accept = &AcceptAll,
          .contract = &Contract,
          .create = create,
          .may_inplace = {{0, 0}}};
}

}  // namespace

void AppendElementwise(std::vector<OpDefinition>& ops) {
  using cpu::UnaryOp;
  ops.push_back(Unary("", "Sigmoid", 6, 13, &Create<UnaryOp::kSigmoid>));
  ops.push_back(Unary("", "Tanh", 6, 13, &Create<UnaryOp::kTanh>));
  ops.push_back(Unary("", "Erf", 9, 13, &Create<UnaryOp::kErf>));
  ops.push_back(Unary("", "Exp", 6, 13, &Create<UnaryOp::kExp>));
  ops.push_back(Unary("", "Gelu", 20, 20, &CreateOnnxGelu));
  ops.push_back(Unary("com.microsoft", "Gelu", 1, 1, &Create<UnaryOp::kGelu>));
  ops.push_back(Unary("com.microsoft", "QuickGelu", 1, 1, &Create<UnaryOp::kQuickGelu>));
  OpDefinition fast_gelu = Unary("com.microsoft", "FastGelu", 1, 1, &Create<UnaryOp::kGeluTanh>);
  fast_gelu.inputs.push_back({"T", true});
  ops.push_back(fast_gelu);
  OpDefinition bias_gelu = Unary("com.microsoft", "BiasGelu", 1, 1, &Create<UnaryOp::kGelu>);
  bias_gelu.inputs.push_back({"T"});
  ops.push_back(bias_gelu);
}

}  // namespace batch_invariant::ort
