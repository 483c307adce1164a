#include "kernels/cuda/gemm/gemm_tile_table.cuh"

namespace batch_invariant::cuda {
template struct GemmTileTable<__half>;
}  // namespace batch_invariant::cuda
