// Checks, broadcasting and threads of the elementwise ops; the arithmetic is in elementwise_body.h.
#include "batch_invariant/cpu/elementwise.h"

#include "kernels/cpu/dispatch/parallel_rows.h"
#include "kernels/cpu/elementwise/broadcast_runs.h"
#include "kernels/cpu/elementwise/elementwise_kernels.h"

namespace batch_invariant::cpu {

BI_DEFINE_KERNEL_TABLE(ElementwiseKernels, kElementwiseKernels, ElementwiseKernelTable)

namespace {

Status NoKernel() {
  return Status::Unsupported(
      "elementwise op: this library has no kernel for the instruction set asked for");
}

Status NoData() { return Status::InvalidArgument("elementwise op: an operand has no data"); }

}  // namespace

Status UnaryF32(const Context& context, const UnaryArgs& args) {
  if (args.rows < 0 || args.width < 0) {
    return Status::InvalidArgument("elementwise op: rows and width must not be negative");
  }
  const ElementwiseKernels* kernels =
      FindKernels(ElementwiseKernelTable(), context.instruction_set);
  if (kernels == nullptr) return NoKernel();
  const int64_t count = args.rows * args.width;
  if (count == 0) return Status::Ok();
  if (args.x == nullptr || args.y == nullptr) return NoData();
  if (args.bias != nullptr) {
    ParallelRows(context.parallel, args.rows, args.width, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        kernels->unary(args.op, args.alpha, args.x + r * args.width, args.bias,
                       args.y + r * args.width, args.width);
      }
    });
    return Status::Ok();
  }
  const int64_t runs = (count + kRunElements - 1) / kRunElements;
  ParallelRows(context.parallel, runs, kRunElements, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kRunElements;
    const int64_t last = std::min(count, end * kRunElements);
    kernels->unary(args.op, args.alpha, args.x + first, nullptr, args.y + first, last - first);
  });
  return Status::Ok();
}

namespace {

// run(x + first, y + first, length) over pieces of `count` elements.
template <typename X, typename Y>
Status Convert(const Context& context, int64_t count, const X* x, Y* y,
               void (*ElementwiseKernels::*member)(const X*, Y*, int64_t)) {
  if (count < 0) return Status::InvalidArgument("conversion: the count must not be negative");
  const ElementwiseKernels* kernels =
      FindKernels(ElementwiseKernelTable(), context.instruction_set);
  if (kernels == nullptr) return NoKernel();
  if (count == 0) return Status::Ok();
  if (x == nullptr || y == nullptr) return NoData();
  const int64_t runs = (count + kRunElements - 1) / kRunElements;
  ParallelRows(context.parallel, runs, kRunElements, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kRunElements;
    (kernels->*member)(x + first, y + first, std::min(count, end * kRunElements) - first);
  });
  return Status::Ok();
}

}  // namespace

Status WidenF16(const Context& context, int64_t count, const uint16_t* x, float* y) {
  return Convert(context, count, x, y, &ElementwiseKernels::widen_f16);
}

Status RoundToF16(const Context& context, int64_t count, const float* x, uint16_t* y) {
  return Convert(context, count, x, y, &ElementwiseKernels::round_to_f16);
}

Status BinaryF32(const Context& context, const BinaryArgs& args) {
  BroadcastRuns runs;
  BATCH_INVARIANT_RETURN_IF_ERROR(
      MakeBroadcastRuns(args.shape, args.a_strides, args.b_strides, &runs));
  const ElementwiseKernels* kernels =
      FindKernels(ElementwiseKernelTable(), context.instruction_set);
  if (kernels == nullptr) return NoKernel();
  if (runs.count == 0) return Status::Ok();
  if (args.a == nullptr || args.b == nullptr || args.y == nullptr) return NoData();
  ForEachRun(context.parallel, runs, /*cost=*/1,
             [&](int64_t a, int64_t b, int64_t y, int64_t length) {
               kernels->binary(args.op, args.a + a, runs.a_is_run, args.b + b, runs.b_is_run,
                               args.y + y, length);
             });
  return Status::Ok();
}

Status SiluMulF32(const Context& context, const SiluMulArgs& args) {
  if (args.rows < 0 || args.width < 0) {
    return Status::InvalidArgument("SiLU times up: rows and width must not be negative");
  }
  if (args.gate_stride < args.width || args.up_stride < args.width || args.y_stride < args.width) {
    return Status::InvalidArgument("SiLU times up: a stride is below the width");
  }
  const ElementwiseKernels* kernels =
      FindKernels(ElementwiseKernelTable(), context.instruction_set);
  if (kernels == nullptr) return NoKernel();
  if (args.rows == 0 || args.width == 0) return Status::Ok();
  if (args.gate == nullptr || args.up == nullptr || args.y == nullptr) return NoData();
  const int64_t pieces_per_row = (args.width + kRunElements - 1) / kRunElements;
  ParallelRows(context.parallel, args.rows * pieces_per_row, std::min(args.width, kRunElements),
               [&](int64_t begin, int64_t end) {
                 for (int64_t piece = begin; piece < end; ++piece) {
                   const int64_t r = piece / pieces_per_row;
                   const int64_t i = piece % pieces_per_row * kRunElements;
                   kernels->silu_mul(
                       args.gate + r * args.gate_stride + i, args.up + r * args.up_stride + i,
                       args.y + r * args.y_stride + i, std::min(kRunElements, args.width - i));
                 }
               });
  return Status::Ok();
}

}  // namespace batch_invariant::cpu
