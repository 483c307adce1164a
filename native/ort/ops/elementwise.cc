// Activations on the CPU.
#include "batch_invariant/cpu/elementwise.h"

#include "batch_invariant/contract.h"
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

}  // namespace

void AppendElementwise(std::vector<OpDefinition>& ops) { AppendActivationOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
