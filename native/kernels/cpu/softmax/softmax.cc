// Checks, threads and strided rows of Softmax and LogSoftmax; the arithmetic is in softmax_body.h.
#include "batch_invariant/cpu/softmax.h"

#include <algorithm>
#include <atomic>

#include "kernels/cpu/dispatch/parallel_rows.h"
#include "kernels/cpu/softmax/softmax_kernels.h"

namespace batch_invariant::cpu {

BI_DEFINE_KERNEL_TABLE(SoftmaxKernels, kSoftmaxKernels, SoftmaxKernelTable)

namespace {

using Row = void (*)(const float* x, float* y, int64_t length);

// Rows with a stride are brought together first, so that they meet the same code.
Status RunStrided(const Context& context, const SoftmaxArgs& args, Row row) {
  const int64_t rows = args.outer * args.inner;
  const int64_t workers = std::clamp<int64_t>(context.parallel.threads, 1, rows);
  auto* scratch = static_cast<float*>(
      context.scratch.allocate(context.scratch.self, sizeof(float) * args.length * workers));
  if (scratch == nullptr) return Status::OutOfMemory("softmax: no memory for one row per thread");
  std::atomic<int64_t> next{0};
  ParallelFor(context.parallel, workers, [&](int64_t worker) {
    float* gathered = scratch + worker * args.length;
    for (int64_t r = next++; r < rows; r = next++) {
      const int64_t offset = r / args.inner * args.length * args.inner + r % args.inner;
      for (int64_t i = 0; i < args.length; ++i) gathered[i] = args.x[offset + i * args.inner];
      row(gathered, gathered, args.length);
      for (int64_t i = 0; i < args.length; ++i) args.y[offset + i * args.inner] = gathered[i];
    }
  });
  return Status::Ok();
}

Status Run(const Context& context, const SoftmaxArgs& args, Row SoftmaxKernels::*member) {
  if (args.outer < 0 || args.length < 0 || args.inner < 0) {
    return Status::InvalidArgument("softmax: no extent may be negative");
  }
  const SoftmaxKernels* kernels = FindKernels(SoftmaxKernelTable(), context.instruction_set);
  if (kernels == nullptr) {
    return Status::Unsupported(
        "softmax: this library has no kernel for the instruction set asked for");
  }
  if (args.outer == 0 || args.length == 0 || args.inner == 0) return Status::Ok();
  if (args.x == nullptr || args.y == nullptr) {
    return Status::InvalidArgument("softmax: the input or the output has no data");
  }
  const Row row = kernels->*member;
  if (args.inner > 1) return RunStrided(context, args, row);
  ParallelRows(context.parallel, args.outer, args.length, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      row(args.x + r * args.length, args.y + r * args.length, args.length);
    }
  });
  return Status::Ok();
}

}  // namespace

Status SoftmaxF32(const Context& context, const SoftmaxArgs& args) {
  return Run(context, args, &SoftmaxKernels::softmax);
}

Status LogSoftmaxF32(const Context& context, const SoftmaxArgs& args) {
  return Run(context, args, &SoftmaxKernels::log_softmax);
}

}  // namespace batch_invariant::cpu
