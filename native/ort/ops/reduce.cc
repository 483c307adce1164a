// Reductions on the CPU, over the last axes.
#include "batch_invariant/cpu/reduce.h"

#include "batch_invariant/contract.h"
#include "ort/ops/half.h"
#include "ort/ops/reduce_kernel.h"

namespace batch_invariant::ort {
namespace {

struct Cpu {
  using Op = cpu::ReduceOp;
  static constexpr bool kLastAxesOnly = true;
  static std::vector<ElementType> Types() { return kCpuFloats; }
  static const char* Contract(const NodeInfo&) { return contract::kReduceF32; }
  static Status Run(OpContext& context, Op op, int64_t outer, int64_t length, int64_t,
                    const Tensor& x, const Tensor& y) {
    cpu::ReduceArgs args;
    args.op = op;
    args.rows = outer;
    args.length = length;
    Point(args.x, x);
    Point(args.y, y);
    return cpu::ReduceF32(context.Cpu(), args);
  }
};

}  // namespace

void AppendReduce(std::vector<OpDefinition>& ops) { AppendReduceOps<Cpu>(ops); }

}  // namespace batch_invariant::ort
