// Definitions behind grouped_tile.h for 16-bit types; each instantiates them in a file of its own.
// The shapes are those of GemmTileTable and NBitsTile.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_TILE_16BIT_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_TILE_16BIT_CUH_

#include "kernels/cuda/gemm/gemm_tile_table.cuh"
#include "kernels/cuda/moe/grouped_tile.cuh"
#include "kernels/cuda/moe/grouped_tile.h"

namespace batch_invariant::cuda {

template <typename T>
Status GroupedTileKernels<T>::GemmSmall(const GroupedArgs& args, const DeviceInfo&, Stream stream) {
  return GroupedGemm<T, SmallTile>(args, stream);
}
template <typename T>
Status GroupedTileKernels<T>::GemmLarge(const GroupedArgs& args, const DeviceInfo&, Stream stream) {
  return GroupedGemm<T, MediumTile>(args, stream);
}
template <typename T>
Status GroupedTileKernels<T>::NBitsSmall(const GroupedArgs& args, const DeviceInfo&,
                                         Stream stream) {
  return GroupedNBits<T, TileShape<16, 64, 16, 16, 4>>(args, stream);
}
template <typename T>
Status GroupedTileKernels<T>::NBitsLarge(const GroupedArgs& args, const DeviceInfo&,
                                         Stream stream) {
  return GroupedNBits<T, TileShape<64, 64, 32, 32, 3>>(args, stream);
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_TILE_16BIT_CUH_
