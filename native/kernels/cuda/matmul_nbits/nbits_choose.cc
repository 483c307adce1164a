// Which kernel of the table runs. Every choice gives the same bytes; this file decides speed only,
// which is why it may look at the row count.
#include <algorithm>

#include "kernels/cuda/matmul_nbits/nbits_kernels.h"

namespace batch_invariant::cuda {
namespace {

// Relative time of an sm_90 kernel. The weights were fitted to measurements of every kernel on an
// H200 (tests/benchmarks/gpu/NOTES.md).
double Cost(const NBitsKernel& kernel, const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
            const DeviceInfo& device) {
  const std::int64_t blocks = CeilDiv(args.m, kernel.rows) * CeilDiv(plan.n, kernel.columns);
  const auto waves = static_cast<double>(CeilDiv(blocks, device.multiprocessors));
  const auto records = static_cast<double>(CeilDiv(plan.k, 128));
  if (kernel.warps > 0) {  // they share the issue slots; a record each at a time
    const double all = (750 + 31.0 * kernel.rows) / 16 * kernel.warps;
    return waves * (records / kernel.runs * all + 5000);
  }
  // A warpgroup alone waits for its own products, two of them share the issue slots.
  const int groups = kernel.columns / 64;
  const double dequantise = (groups == 1 ? 440 + 2.0 * kernel.rows : 620 + 4.0 * kernel.rows) *
                            (kernel.stored_bits == 4 ? 1 : 0.84);
  const double multiply = 8.6 * std::max(16.0, kernel.rows / 2.0) * groups;
  return waves *
         (records * std::max(dequantise, multiply) + 5000 + 0.1 * kernel.rows * kernel.columns);
}

}  // namespace

const NBitsKernel& ChooseNBitsKernel(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                                     const DeviceInfo& device) {
  const NBitsKernel* best = nullptr;
  double best_cost = 0;
  for (const NBitsKernel& kernel : NBitsKernels()) {
    if (!Serves(kernel, plan, args, device)) continue;
    // The kernels for any layout serve everything and come first, so any sm_90 kernel replaces
    // them.
    const double cost = kernel.needs_sm90
                            ? Cost(kernel, plan, args, device)
                            : static_cast<double>((args.m <= 16) != (kernel.rows == 16));
    const bool better = best == nullptr || (kernel.needs_sm90 && !best->needs_sm90) ||
                        (kernel.needs_sm90 == best->needs_sm90 && cost < best_cost);
    if (better) {
      best = &kernel;
      best_cost = cost;
    }
  }
  return *best;
}

}  // namespace batch_invariant::cuda
