// The table of grouped kernels and which of them run. Every choice gives the same bytes, which is
// why it may look at the row count.
#include "kernels/cuda/moe/grouped_kernels.h"

#include <algorithm>
#include <vector>

#include "kernels/cuda/moe/grouped_sm90.h"
#include "kernels/cuda/moe/grouped_tile.h"

namespace batch_invariant::cuda {
namespace {

template <typename T>
void AppendTiles(ElementType type, std::vector<GroupedKernel>* kernels) {
  using Tile = GroupedTileKernels<T>;
  kernels->push_back({"moe_tile_16", type, false, 16, 0, 0, false, &Tile::GemmSmall});
  kernels->push_back({"moe_tile_64", type, false, 64, 0, 0, false, &Tile::GemmLarge});
  kernels->push_back({"moe_nbits_tile_16", type, true, 16, 0, 0, false, &Tile::NBitsSmall});
  kernels->push_back({"moe_nbits_tile_64", type, true, 64, 0, 0, false, &Tile::NBitsLarge});
}

std::vector<GroupedKernel> MakeTable() {
  std::vector<GroupedKernel> kernels;
  AppendTiles<float>(ElementType::kFloat32, &kernels);
  AppendTiles<__half>(ElementType::kFloat16, &kernels);
  AppendTiles<__nv_bfloat16>(ElementType::kBFloat16, &kernels);
  for (const GroupedKernel& kernel : Sm90GroupedKernels<__half>()) kernels.push_back(kernel);
  for (const GroupedKernel& kernel : Sm90GroupedKernels<__nv_bfloat16>()) {
    kernels.push_back(kernel);
  }
  return kernels;
}

// Among kernels of `rows` rows, the last one that serves: those for sm_90 stand behind the others.
const GroupedKernel* Find(const MoeArgs& args, const ExpertWeights& layer, std::int64_t k, int rows,
                          const DeviceInfo& device) {
  const GroupedKernel* found = nullptr;
  for (const GroupedKernel& kernel : GroupedKernels()) {
    if (kernel.rows != rows || !Serves(kernel, args.type, layer, k, device)) continue;
    // Sorted rows are gathered 16 bytes at a time.
    if (kernel.needs_sm90 && reinterpret_cast<std::uintptr_t>(args.input) % 16 != 0) continue;
    found = &kernel;
  }
  return found;
}

}  // namespace

std::span<const GroupedKernel> GroupedKernels() {
  static const std::vector<GroupedKernel> kernels = MakeTable();
  return kernels;
}

bool Serves(const GroupedKernel& kernel, ElementType type, const ExpertWeights& layer,
            std::int64_t k, const DeviceInfo& device) {
  const MatMulNBitsPlan* plan = layer.plan;
  if (kernel.type != type || kernel.quantized != (plan != nullptr)) return false;
  if (!kernel.needs_sm90) return true;
  return device.compute_capability == 90 && k % 8 == 0 &&
         kernel.stored_bits == (plan->bits == 8 ? 8 : 4) &&
         (kernel.runs == 0 || kernel.runs == plan->runs()) &&
         plan->zero_points != ZeroPoints::kElement;
}

MoeKernels ChooseMoeKernels(const MoeArgs& args, const DeviceInfo& device) {
  // Rows of an expert where they are spread evenly.
  const std::int64_t each = CeilDiv(args.tokens * args.k, args.experts);
  // The fewest rows that hold those of an expert, or else the most.
  MoeKernels chosen;
  for (const int rows : {8, 16, 64}) {
    const MoeKernels both{Find(args, args.fc1, args.hidden, rows, device),
                          Find(args, args.fc2, args.inter, rows, device)};
    if (both.fc1 == nullptr || both.fc2 == nullptr) continue;
    // Tiles of 16 stand behind those of 8 rows, whose kernels are faster.
    const bool slower = chosen.fc1 != nullptr && chosen.fc1->needs_sm90 && !both.fc1->needs_sm90;
    if (slower) continue;
    chosen = both;
    if (each <= rows) break;
  }
  return chosen;
}

}  // namespace batch_invariant::cuda
