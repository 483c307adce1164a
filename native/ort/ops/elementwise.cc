// Activations on the CPU, alone and as the gate of a product.
#include "batch_invariant/cpu/elementwise.h"

#include "batch_invariant/contract.h"
#include "ort/ops/fusion.h"
#include "ort/ops/gated_product.h"
#include "ort/ops/half.h"
#include "ort/ops/unary_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cpu {
  using Op = cpu::UnaryOp;
  using Args = cpu::UnaryArgs;
  static std::vector<ElementType> Types() { return kCpuFloats; }
  static const char* Contract(const NodeInfo&) { return contract::kElementwiseF32; }
  static Status Run(OpContext& context, ElementType, const Args& args) {
    return cpu::UnaryF32(context.Cpu(), args);
  }
};

// y = (gate * sigmoid(gate)) * up.
class SiluMulKernel final : public OpKernel {
 public:
  SiluMulKernel(size_t gate, size_t up) : gate_(gate), up_(up) {}

  Status Compute(OpContext& context) override {
    Tensor gate;
    Tensor up;
    Tensor y;
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(gate_, &gate));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Input(up_, &up));
    BATCH_INVARIANT_RETURN_IF_ERROR(context.Output(0, gate.shape, &y));
    cpu::SiluMulArgs args;
    args.width = gate.shape.empty() ? 1 : gate.shape.back();
    args.rows = args.width == 0 ? 0 : gate.Elements() / args.width;
    args.gate_stride = args.up_stride = args.y_stride = args.width;
    Point(args.gate, gate);
    Point(args.up, up);
    Point(args.y, y);
    return cpu::SiluMulF32(context.Cpu(), args);
  }

 private:
  const size_t gate_;
  const size_t up_;
};

std::optional<GatedProduct> MatchSiluMul(const Ort::ConstNode& last, bool alone) {
  std::optional<GatedProduct> product = MatchGatedProduct(last, alone);
  if (product && (product->activation != GateActivation::kSilu || product->type != kFloat)) {
    product.reset();
  }
  return product;
}

}  // namespace

std::span<const FusionDefinition> CpuFusions() {
  static constexpr FusionDefinition kFusions[] = {
      {.contract = contract::kElementwiseF32,
       .keeps_constants = false,
       .match =
           [](const Ort::ConstNode& last, bool alone) {
             std::optional<GatedProduct> product = MatchSiluMul(last, alone);
             return product ? std::move(product->nodes) : std::vector<Ort::ConstNode>();
           },
       .create = [](std::span<const Ort::ConstNode> nodes, std::span<const std::string> inputs,
                    DeviceServices*, std::unique_ptr<OpKernel>* kernel) -> Status {
         const std::optional<GatedProduct> product = MatchSiluMul(nodes.back(), true);
         *kernel = std::make_unique<SiluMulKernel>(IndexOf(inputs, product->gate),
                                                   IndexOf(inputs, product->up));
         return Status::Ok();
       }},
  };
  return kFusions;
}

void AppendElementwise(std::vector<OpDefinition>& ops) { AppendActivationOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
