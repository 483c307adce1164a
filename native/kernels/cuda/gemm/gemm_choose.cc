// Which kernel of the table runs. Every choice gives the same bytes; this file decides speed only,
// which is why it may look at the row count.
#include <algorithm>

#include "kernels/cuda/gemm/gemm_kernels.h"

namespace batch_invariant::cuda {
namespace {

// Nanoseconds of a kernel that streams K tiles of 64 through shared memory, but for what all have
// in common. Fitted to measurements of every sm_90 kernel at 16 shapes and up to 13 row counts on
// an H200 (tests/benchmarks/gpu/NOTES.md): the choice loses 1.4 % to the best one up to 64 rows,
// 0.8 % to 512, 0.7 % above.
double Cost(const GemmKernel& kernel, const GemmArgs& g, const DeviceInfo& device) {
  constexpr double kPerColumn = 1.1;             // multiplying a row of tiles, of K
  constexpr double kMoreColumns = 22;            // that the other operand's reads amount to
  constexpr double kPerFetchedRow = 0.93;        // one block's loads of a row, per tile of K
  constexpr double kLeastStep = 76;              // barrier and issue of a tile of K
  constexpr double kPowerPerFetchedRow = 0.063;  // moving data slows multiplying at the power limit
  constexpr double kPerRowOfAll = 0.0031;        // what L2 delivers to all blocks together
  constexpr double kPerByte = 0.00018;           // of weights, from memory
  constexpr double kPerTile = 40;                // the end of a tile
  constexpr double kPerOutput = 0.12;
  constexpr double kByTurns = 0.65;  // part of a tile's end that the other warpgroup does not hide
  constexpr double kClusterStart = 1900;

  const std::int64_t cluster = kernel.cluster_m * kernel.cluster_n;
  const std::int64_t tiles = CeilDiv(g.m, kernel.m * kernel.cluster_m) *
                             CeilDiv(g.n, kernel.n * kernel.cluster_n) * cluster * g.batch;
  const auto waves =
      static_cast<double>(CeilDiv(tiles, device.multiprocessors / cluster * cluster));
  const auto steps = static_cast<double>(CeilDiv(g.k, 64));
  const double fetched = static_cast<double>(kernel.m) / kernel.cluster_n +
                         static_cast<double>(kernel.n) / kernel.cluster_m;
  const double multiply = kPerColumn * (kernel.n + kMoreColumns) * std::max(1, kernel.m / 64);
  const double step =
      std::max({multiply, kPerFetchedRow * fetched, kLeastStep}) + kPowerPerFetchedRow * fetched;
  const double all = static_cast<double>(tiles) * steps * fetched * kPerRowOfAll;
  const double weights = static_cast<double>(g.n * g.k * g.batch) * 2 * kPerByte;
  const double end = kPerTile + kPerOutput * kernel.m * kernel.n;
  return std::max({waves * steps * step, all, weights}) +
         end * (kernel.turns ? 1 + (waves - 1) * kByTurns : waves) +
         (cluster > 1 ? kClusterStart : 0);
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
