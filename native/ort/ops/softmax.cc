// Softmax and LogSoftmax on the CPU.
#include "batch_invariant/cpu/softmax.h"

#include "batch_invariant/contract.h"
#include "ort/ops/half.h"
#include "ort/ops/softmax_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cpu {
  using Args = cpu::SoftmaxArgs;
  static std::vector<ElementType> Types() { return kCpuFloats; }
  static const char* Contract(const NodeInfo&) { return contract::kSoftmaxF32; }
  static Status Run(OpContext& context, ElementType, bool logarithm, const Args& args) {
    return logarithm ? cpu::LogSoftmaxF32(context.Cpu(), args)
                     : cpu::SoftmaxF32(context.Cpu(), args);
  }
};

}  // namespace

void AppendSoftmax(std::vector<OpDefinition>& ops) { AppendSoftmaxOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
