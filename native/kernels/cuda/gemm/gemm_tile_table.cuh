// Definitions behind gemm_tile_table.h; each element type instantiates them in a file of its own.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_TILE_TABLE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_TILE_TABLE_CUH_

#include "kernels/cuda/gemm/gemm_tile.cuh"
#include "kernels/cuda/gemm/gemm_tile_table.h"

namespace batch_invariant::cuda {

// Small: few rows, so many blocks and deep stages. Large: 64 x 32 a warp feeds the tensor cores
// with the fewest shared-memory reads that leave registers for two fragment buffers. All fit the 99
// KiB of compute capability 8.6.
using SmallTile = TileShape<16, 64, 16, 16, 6>;
using MediumTile = TileShape<64, 64, 32, 32, 4>;
using LargeTile = TileShape<128, 128, 64, 32, 3>;

template <typename T, template <typename> typename FillB>
Status LaunchTile(TileSize size, const GemmArgs& g, Stream stream) {
  const FillKVectors<T> a{OperandA<T>(g)};
  const FillB<T> b{OperandB<T>(g)};
  const Epilogue<T> e = MakeEpilogue<T>(g);
  switch (size) {
    case TileSize::kSmall:
      return LaunchGemmTile<T, SmallTile>(a, b, e, g.k, g.batch, stream);
    case TileSize::kMedium:
      return LaunchGemmTile<T, MediumTile>(a, b, e, g.k, g.batch, stream);
    default:
      return LaunchGemmTile<T, LargeTile>(a, b, e, g.k, g.batch, stream);
  }
}

template <typename T>
Status GemmTileTable<T>::KVectors(TileSize size, const GemmArgs& args, Stream stream) {
  return LaunchTile<T, FillKVectors>(size, args, stream);
}
template <typename T>
Status GemmTileTable<T>::NVectors(TileSize size, const GemmArgs& args, Stream stream) {
  return LaunchTile<T, FillNVectors>(size, args, stream);
}
template <typename T>
Status GemmTileTable<T>::Elements(const GemmArgs& g, Stream stream) {
  const FillElements<T> a{OperandA<T>(g)}, b{OperandB<T>(g)};
  return LaunchGemmTile<T, MediumTile>(a, b, MakeEpilogue<T>(g), g.k, g.batch, stream);
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_TILE_TABLE_CUH_
