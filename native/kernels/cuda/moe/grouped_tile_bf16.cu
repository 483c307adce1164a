#include "kernels/cuda/moe/grouped_tile_16bit.cuh"

namespace batch_invariant::cuda {
template struct GroupedTileKernels<__nv_bfloat16>;
}  // namespace batch_invariant::cuda
