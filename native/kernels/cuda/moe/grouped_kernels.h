// Products of rows with the weights of the expert that each row goes to. Every kernel of an element
// type gives a row the bytes of Gemm or MatMulNBits, so the choice decides speed only.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_KERNELS_H_
#define BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_KERNELS_H_

#include <cstdint>
#include <span>

#include "batch_invariant/cuda/moe.h"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {

// Up to `rows` of the kernel's rows of one expert: [first, first + count) of the sorted rows.
struct RowTile {
  std::int32_t expert;
  std::int32_t first;
  std::int32_t count;
};

struct GroupedArgs {
  ElementType type = ElementType::kFloat32;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t sorted_rows = 0;  // of a where row_index is null, and of y: an upper bound

  const RowTile* tiles = nullptr;            // on the device
  const std::int32_t* tile_count = nullptr;  // on the device
  std::int64_t max_tiles = 0;                // an upper bound of *tile_count

  // Sorted row r is row row_index[r] of a, or r without an index.
  const void* a = nullptr;  // rows of k
  const std::int32_t* row_index = nullptr;
  ExpertWeights weights;
  void* y = nullptr;  // [sorted_rows, n]
};

struct GroupedKernel {
  const char* name;
  ElementType type;
  bool quantized;
  int rows;         // of a tile
  int stored_bits;  // 4 or 8; 0: any
  int runs;         // parts of K that it sums apart (MatMulNBitsPlan::runs); 0: any
  // Compute capability 9.0, and a in sorted order: row_index is null.
  bool needs_sm90;
  Status (*launch)(const GroupedArgs& args, const DeviceInfo& device, Stream stream);
};

std::span<const GroupedKernel> GroupedKernels();

// Whether the kernel computes a layer of rows of `k`.
bool Serves(const GroupedKernel& kernel, ElementType type, const ExpertWeights& layer,
            std::int64_t k, const DeviceInfo& device);

// One kernel a layer, with equally many rows a tile.
struct MoeKernels {
  const GroupedKernel* fc1 = nullptr;
  const GroupedKernel* fc2 = nullptr;
};
MoeKernels ChooseMoeKernels(const MoeArgs& args, const DeviceInfo& device);

// MixtureOfExperts by kernels of the caller's choice.
Status MixtureOfExperts(const MoeArgs& args, const MoeKernels& kernels, void* workspace,
                        std::size_t workspace_bytes, Stream stream);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_KERNELS_H_
