#include "kernels/cuda/gemm/gemm_tile_table.cuh"

namespace batch_invariant::cuda {
template struct GemmTileTable<__nv_bfloat16>;
}  // namespace batch_invariant::cuda
