// Which kernel of the table runs. Every choice gives the same bytes; this file decides speed only,
// which is why it may look at the row count.
#include <cstring>

#include "kernels/cuda/gemm/gemm_kernels.h"

namespace batch_invariant::cuda {
namespace {

const GemmKernel* Find(const GemmArgs& g, const DeviceInfo& device, const char* name) {
  for (const GemmKernel& kernel : GemmKernels()) {
    if (kernel.type == g.type && std::strcmp(kernel.name, name) == 0) {
      return Serves(kernel, g, device) ? &kernel : nullptr;
    }
  }
  return nullptr;
}

// Many rows on sm_90: the fewest units of work on the busiest block, where a unit is a column of a
// 128-row tile and a tile costs its fill and store besides.
const GemmKernel* ChooseManyRows(const GemmArgs& g, const DeviceInfo& device) {
  const GemmKernel* best = nullptr;
  double best_cost = 0;
  for (const GemmKernel& kernel : GemmKernels()) {
    if (kernel.m != 128 || kernel.needs != GemmNeeds::kKVectorsSm90 || !Serves(kernel, g, device)) {
      continue;
    }
    const std::int64_t cluster = kernel.cluster_m * kernel.cluster_n;
    const std::int64_t tiles = CeilDiv(g.m, kernel.m * kernel.cluster_m) *
                               CeilDiv(g.n, kernel.n * kernel.cluster_n) * g.batch;
    const std::int64_t waves = CeilDiv(tiles, device.multiprocessors / cluster);
    // Shared-memory and L2 traffic a multiply, against the tensor cores' own time.
    const double fetched = 128.0 / kernel.cluster_n + double(kernel.n) / kernel.cluster_m;
    const double cost = waves * (kernel.n + 0.35 * fetched + 16.0);
    if (best == nullptr || cost < best_cost) {
      best = &kernel;
      best_cost = cost;
    }
  }
  return best;
}

const GemmKernel* ChooseSm90(const GemmArgs& g, const DeviceInfo& device) {
  const bool narrow = CeilDiv(g.n, 32) * g.batch <= device.multiprocessors;
  if (g.m <= 16) return Find(g, device, narrow ? "wgmma_16x32" : "wgmma_16x64");
  if (g.m <= 32) return Find(g, device, narrow ? "wgmma_32x32" : "wgmma_32x64");
  if (g.m <= 64) return Find(g, device, narrow ? "wgmma_64x32" : "wgmma_64x64");
  return ChooseManyRows(g, device);
}

}  // namespace

const GemmKernel& ChooseGemmKernel(const GemmArgs& g, const DeviceInfo& device) {
  if (g.type == ElementType::kFloat32) {
    return *Find(g, device, g.m <= 16 ? "f32_16x32" : "f32_64x64");
  }
  if (const GemmKernel* kernel = ChooseSm90(g, device)) return *kernel;
  const bool small = g.m <= 16;
  const bool large =
      CeilDiv(g.m, 128) * CeilDiv(g.n, 128) * g.batch >= device.multiprocessors && g.m > 64;
  const char* k_major = small ? "tile_k_16x64" : large ? "tile_k_128x128" : "tile_k_64x64";
  if (const GemmKernel* kernel = Find(g, device, k_major)) return *kernel;
  const char* n_major = small ? "tile_n_16x64" : large ? "tile_n_128x128" : "tile_n_64x64";
  if (const GemmKernel* kernel = Find(g, device, n_major)) return *kernel;
  return *Find(g, device, "tile_elements_64x64");
}

}  // namespace batch_invariant::cuda
