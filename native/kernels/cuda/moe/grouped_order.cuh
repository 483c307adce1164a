// The order of tiles where rows find their experts on the device, with the functions of TileOrder.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_ORDER_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_ORDER_CUH_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/moe/grouped_kernels.h"

namespace batch_invariant::cuda {

// All tiles of rows, then along n: tiles of one expert follow one another, and so read its weights
// at one time.
struct GroupedOrder {
  static constexpr bool kOnDevice = true;

  const RowTile* tiles;
  const std::int32_t* tile_count;
  std::int64_t expert_bytes;
  int tiles_n;
  bool reads_once;

  __device__ __forceinline__ int count() const { return *tile_count * tiles_n; }
  __device__ __forceinline__ void Locate(int index, int* batch_index, int* m, int* n) const {
    const int tiles_m = *tile_count;
    *batch_index = 0;
    *n = index / tiles_m;
    *m = index - *n * tiles_m;
  }
  __device__ __forceinline__ bool ReadsOnce() const { return reads_once; }
  template <int kRows>
  __device__ __forceinline__ int FirstRow(int m) const {
    return tiles[m].first;
  }
  __device__ __forceinline__ const unsigned char* Weights(const unsigned char* packed,
                                                          int m) const {
    return packed + tiles[m].expert * expert_bytes;
  }
  // Rows behind the tile's are another expert's; c is the expert's bias.
  template <typename Epilogue>
  __device__ __forceinline__ Epilogue EpilogueOf(Epilogue epilogue, int m) const {
    const RowTile tile = tiles[m];
    epilogue.m = tile.first + tile.count;
    if (epilogue.c != nullptr) epilogue.c += std::int64_t{tile.expert} * epilogue.n;
    return epilogue;
  }
};

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_ORDER_CUH_
