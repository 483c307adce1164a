// Checks and threads of the norms; the arithmetic is in norm_body.h.
#include "batch_invariant/cpu/norm.h"

#include "kernels/cpu/dispatch/parallel_rows.h"
#include "kernels/cpu/norm/norm_kernels.h"

namespace batch_invariant::cpu {

BI_DEFINE_KERNEL_TABLE(NormKernels, kNormKernels, NormKernelTable)

namespace {

Status Check(const NormArgs& args) {
  if (args.rows < 0 || args.width < 0) {
    return Status::InvalidArgument("norm: rows and width must not be negative");
  }
  if (args.rows == 0 || args.width == 0) return Status::Ok();
  if (args.x == nullptr || args.y == nullptr) {
    return Status::InvalidArgument("norm: the input or the output has no data");
  }
  if (args.skip != nullptr && (args.skip_rows <= 0 || args.rows % args.skip_rows != 0)) {
    return Status::InvalidArgument("norm: the rows of skip must divide the rows of the input");
  }
  return Status::Ok();
}

using Rows = void (*)(const NormArgs& args, int64_t begin, int64_t end);

Status Run(const Context& context, const NormArgs& args, Rows NormKernels::*rows) {
  BATCH_INVARIANT_RETURN_IF_ERROR(Check(args));
  const NormKernels* kernels = FindKernels(NormKernelTable(), context.instruction_set);
  if (kernels == nullptr) {
    return Status::Unsupported(
        "norm: this library has no kernel for the instruction set asked for");
  }
  if (args.width == 0) return Status::Ok();
  ParallelRows(context.parallel, args.rows, args.width,
               [&](int64_t begin, int64_t end) { (kernels->*rows)(args, begin, end); });
  return Status::Ok();
}

}  // namespace

Status RmsNormF32(const Context& context, const NormArgs& args) {
  return Run(context, args, &NormKernels::rms);
}

Status LayerNormF32(const Context& context, const NormArgs& args) {
  return Run(context, args, &NormKernels::layer);
}

}  // namespace batch_invariant::cpu
