// RotaryEmbedding on the CPU.
#include "batch_invariant/contract.h"
#include "batch_invariant/cpu/rotary.h"
#include "ort/ops/half.h"
#include "ort/ops/rotary_embedding_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cpu {
  using Args = cpu::RotaryArgs;
  using Positions = cpu::RotaryPositions;
  static std::vector<ElementType> Types() { return kCpuFloats; }
  static const char* Contract(const NodeInfo&) { return contract::kElementwiseF32; }
  static Status Run(OpContext& context, ElementType, const Args& args) {
    return cpu::RotaryF32(context.Cpu(), args);
  }
};

}  // namespace

void AppendRotaryEmbedding(std::vector<OpDefinition>& ops) { AppendRotaryEmbeddingOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
