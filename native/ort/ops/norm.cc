// The norms on the CPU.
#include "batch_invariant/cpu/norm.h"

#include "batch_invariant/contract.h"
#include "ort/ops/half.h"
#include "ort/ops/norm_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cpu {
  using Args = cpu::NormArgs;
  static std::vector<ElementType> Types() { return kCpuFloats; }
  static const char* Contract(const NodeInfo&) { return contract::kNormF32; }
  static Status Run(OpContext& context, ElementType, const std::string&, Statistic statistic,
                    const Args& args) {
    return statistic == Statistic::kRootMeanSquare ? cpu::RmsNormF32(context.Cpu(), args)
                                                   : cpu::LayerNormF32(context.Cpu(), args);
  }
};

}  // namespace

void AppendNorm(std::vector<OpDefinition>& ops) { AppendNormOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
