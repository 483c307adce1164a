#include "kernels/cuda/moe/grouped_tile_16bit.cuh"

namespace batch_invariant::cuda {
template struct GroupedTileKernels<__half>;
}  // namespace batch_invariant::cuda
