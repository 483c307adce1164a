// The tile kernels of one element type, behind one function a shape and fill.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_TILE_TABLE_H_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_TILE_TABLE_H_

#include "batch_invariant/cuda/gemm.h"

namespace batch_invariant::cuda {

enum class TileSize { kSmall, kMedium, kLarge };  // 16 x 64, 64 x 64, 128 x 128 outputs a block

template <typename T>
struct GemmTileTable {
  static Status KVectors(TileSize size, const GemmArgs& args, Stream stream);
  static Status NVectors(TileSize size, const GemmArgs& args, Stream stream);
  static Status Elements(const GemmArgs& args, Stream stream);
};

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_TILE_TABLE_H_
