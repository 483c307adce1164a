// Which kernel of the table runs. Every choice gives the same bytes; this file decides speed only,
// which is why it may look at the row count.
#include "kernels/cuda/matmul_nbits/nbits_kernels.h"

namespace batch_invariant::cuda {

const NBitsKernel& ChooseNBitsKernel(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                                     const DeviceInfo& device) {
  // Time is about the waves of blocks times what a block takes: its tensor-core work, which grows
  // with both sides, and the chain along K, which every block walks.
  const NBitsKernel* best = nullptr;
  double best_cost = 0;
  for (const NBitsKernel& kernel : NBitsKernels()) {
    if (!Serves(kernel, plan, args, device)) continue;
    const std::int64_t blocks = CeilDiv(args.m, kernel.rows) * CeilDiv(plan.n, kernel.columns);
    const auto waves = static_cast<double>(CeilDiv(blocks, device.multiprocessors));
    const double generic = kernel.needs_sm90 ? 1.0 : 8.0;
    const double cost = generic * waves * (64.0 + kernel.rows * kernel.columns / 64.0);
    if (best == nullptr || cost < best_cost) {
      best = &kernel;
      best_cost = cost;
    }
  }
  return *best;
}

}  // namespace batch_invariant::cuda
