// Which kernel of the table runs. Every choice gives the same bytes; this file decides speed only,
// which is why it may look at the row count.
#include <algorithm>

#include "kernels/cuda/gemm/gemm_kernels.h"

namespace batch_invariant::cuda {
namespace {

// Relative time of a kernel that streams K tiles of 64 through shared memory. The weights were
// fitted to measurements of every sm_90 kernel at 16 shapes and up to 10 row counts on an H200
// (tests/benchmarks/gpu/NOTES.md); the choice loses 0.5 % to the best one on average.
double Cost(const GemmKernel& kernel, const GemmArgs& g, const DeviceInfo& device) {
  constexpr double kPerFetchedRow = 1.88;  // one block's loads of a row, per tile of K
  constexpr double kLeastStep = 41;        // barrier and issue of a tile of K
  constexpr double kPerTile = 20000;       // filling the ring, draining it
  constexpr double kPerOutput = 506.0 / 64;
  constexpr double kPerRowOfAll = 0.0074;        // what L2 delivers to all blocks together
  constexpr double kPowerPerFetchedRow = 0.048;  // moving data slows multiplying at the power limit
  constexpr double kClusterStart = 700;

  const std::int64_t cluster = kernel.cluster_m * kernel.cluster_n;
  const std::int64_t tiles = CeilDiv(g.m, kernel.m * kernel.cluster_m) *
                             CeilDiv(g.n, kernel.n * kernel.cluster_n) * cluster * g.batch;
  const auto waves =
      static_cast<double>(CeilDiv(tiles, device.multiprocessors / cluster * cluster));
  const auto steps = static_cast<double>(CeilDiv(g.k, 64));
  const double fetched = static_cast<double>(kernel.m) / kernel.cluster_n +
                         static_cast<double>(kernel.n) / kernel.cluster_m;
  const double multiply = 2.0 * kernel.n * std::max(1, kernel.m / 64);
  const double step =
      std::max({multiply, kPerFetchedRow * fetched, kLeastStep}) + kPowerPerFetchedRow * fetched;
  const double all = static_cast<double>(tiles) * steps * fetched * kPerRowOfAll;
  return std::max(waves * steps * step, all) +
         waves * (kPerTile + kPerOutput * kernel.m * kernel.n) + (cluster > 1 ? kClusterStart : 0);
}

// Preference where the cost does not decide: what a kernel asks of its operands, most first.
int Rank(const GemmKernel& kernel) {
  switch (kernel.needs) {
    case GemmNeeds::kKVectorsSm90:
      return 0;
    case GemmNeeds::kKVectors:
      return 1;
    case GemmNeeds::kNVectors:
      return 2;
    default:
      return 3;
  }
}

// The mma.sync and fp32 tiles: by rows, and by whether large tiles fill the chip.
bool Suits(const GemmKernel& kernel, const GemmArgs& g, const DeviceInfo& device) {
  if (g.m <= 16) return kernel.m == 16;
  const std::int64_t large = CeilDiv(g.m, 128) * CeilDiv(g.n, 128) * g.batch;
  const bool fills = g.type != ElementType::kFloat32 && g.m > 64 && large >= device.multiprocessors;
  return kernel.m == (fills ? 128 : 64);
}

}  // namespace

const GemmKernel& ChooseGemmKernel(const GemmArgs& g, const DeviceInfo& device) {
  const GemmKernel* best = nullptr;
  double best_cost = 0;
  for (const GemmKernel& kernel : GemmKernels()) {
    if (!Serves(kernel, g, device)) continue;
    const double cost = kernel.needs == GemmNeeds::kKVectorsSm90
                            ? Cost(kernel, g, device)
                            : static_cast<double>(!Suits(kernel, g, device));
    const bool better = best == nullptr || Rank(kernel) < Rank(*best) ||
                        (Rank(kernel) == Rank(*best) && cost < best_cost);
    if (better) {
      best = &kernel;
      best_cost = cost;
    }
  }
  return *best;  // the kernels for any layout serve everything that CheckGemmArgs accepts
}

}  // namespace batch_invariant::cuda
