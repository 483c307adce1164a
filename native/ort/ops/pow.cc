// Pow on the CPU.
#include "batch_invariant/cpu/pow.h"

#include "ort/ops/pow_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cpu {
  using Args = cpu::PowArgs;
  static std::vector<ElementType> Types() { return {kFloat, kFloat16, kDouble, kInt32, kInt64}; }
  static Status Accept(const NodeInfo& node) {
    const auto is_whole = [&](size_t input) {
      const ElementType type = node.InputType(input);
      return type == kInt32 || type == kInt64;
    };
    if (!is_whole(0) || !is_whole(1)) return Status::Ok();
    return Status::Unsupported("whole numbers alone are left to the stock kernel");
  }
  static Status Run(OpContext& context, const Args& args) { return cpu::Pow(context.Cpu(), args); }
  static cpu::NumberType TypeOf(ElementType type) {
    switch (type) {
      case kDouble:
        return cpu::NumberType::kFloat64;
      case kInt32:
        return cpu::NumberType::kInt32;
      case kInt64:
        return cpu::NumberType::kInt64;
      default:
        return cpu::NumberType::kFloat32;
    }
  }
};

}  // namespace

void AppendPow(std::vector<OpDefinition>& ops) { AppendPowOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
