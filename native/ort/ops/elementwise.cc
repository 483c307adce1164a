// Activations on the CPU, alone and as the gate of a product.
#include "batch_invariant/cpu/elementwise.h"

#include "batch_invariant/contract.h"
#include "ort/ops/fusion.h"
#include "ort/ops/gated_kernel.h"
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
struct CpuSiluMul {
  using Args = cpu::SiluMulArgs;
  static Args ArgsOf(const GatedProduct&) { return {}; }
  static Status Run(OpContext& context, const Args& args) {
    return cpu::SiluMulF32(context.Cpu(), args);
  }
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
         *kernel =
             std::make_unique<GatedKernel<CpuSiluMul>>(*MatchSiluMul(nodes.back(), true), inputs);
         return Status::Ok();
       }},
  };
  return kFusions;
}

void AppendElementwise(std::vector<OpDefinition>& ops) { AppendActivationOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
