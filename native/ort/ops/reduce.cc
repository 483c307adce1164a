// Reductions on the CPU, over neighbouring axes: those that are not the last ones are moved there
// first.
#include "batch_invariant/cpu/reduce.h"

#include "batch_invariant/contract.h"
#include "ort/ops/half.h"
#include "ort/ops/reduce_kernel.h"

namespace batch_invariant::ort {
namespace {

// x [outer, length, inner] as [outer, inner, length], in scratch; null without memory for it.
const float* MoveLast(const cpu::Context& cpu, int64_t outer, int64_t length, int64_t inner,
                      const float* x) {
  const auto bytes = static_cast<size_t>(outer * length * inner) * sizeof(float);
  auto* moved = static_cast<float*>(cpu.scratch.allocate(cpu.scratch.self, bytes));
  if (moved == nullptr) return nullptr;
  cpu::ParallelFor(cpu.parallel, outer, [&](int64_t o) {
    const float* from = x + o * length * inner;
    float* to = moved + o * length * inner;
    for (int64_t i = 0; i < length; ++i) {
      for (int64_t j = 0; j < inner; ++j) to[j * length + i] = from[i * inner + j];
    }
  });
  return moved;
}

struct Cpu {
  using Op = cpu::ReduceOp;
  static std::vector<ElementType> Types() { return kCpuFloats; }
  static const char* Contract(const NodeInfo&) { return contract::kReduceF32; }
  static Status Run(OpContext& context, Op op, int64_t outer, int64_t length, int64_t inner,
                    const Tensor& x, const Tensor& y) {
    const cpu::Context cpu = context.Cpu();
    cpu::ReduceArgs args;
    args.op = op;
    args.rows = outer * inner;
    args.length = length;
    Point(args.x, x);
    Point(args.y, y);
    if (inner > 1 && length > 1 && x.Elements() > 0) {
      args.x = MoveLast(cpu, outer, length, inner, args.x);
      if (args.x == nullptr) {
        return Status::OutOfMemory("no memory for a reduction over " + ShapeText(x.shape));
      }
    }
    return cpu::ReduceF32(cpu, args);
  }
};

}  // namespace

void AppendReduce(std::vector<OpDefinition>& ops) { AppendReduceOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
