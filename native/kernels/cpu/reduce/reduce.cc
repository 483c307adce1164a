// Checks and threads of the reductions; the arithmetic is in reduce_body.h.
#include "batch_invariant/cpu/reduce.h"

#include "kernels/cpu/dispatch/parallel_rows.h"
#include "kernels/cpu/reduce/reduce_kernels.h"

namespace batch_invariant::cpu {

BI_DEFINE_KERNEL_TABLE(ReduceKernels, kReduceKernels, ReduceKernelTable)

Status ReduceF32(const Context& context, const ReduceArgs& args) {
  if (args.rows < 0 || args.length < 0) {
    return Status::InvalidArgument("reduce: rows and length must not be negative");
  }
  if (args.rows > 0 && (args.y == nullptr || (args.x == nullptr && args.length > 0))) {
    return Status::InvalidArgument("reduce: the input or the output has no data");
  }
  const ReduceKernels* kernels = FindKernels(ReduceKernelTable(), context.instruction_set);
  if (kernels == nullptr) {
    return Status::Unsupported(
        "reduce: this library has no kernel for the instruction set asked for");
  }
  ParallelRows(context.parallel, args.rows, args.length,
               [&](int64_t begin, int64_t end) { kernels->rows(args, begin, end); });
  return Status::Ok();
}

}  // namespace batch_invariant::cpu
