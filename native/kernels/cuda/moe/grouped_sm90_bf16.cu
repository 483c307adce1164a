#include "kernels/cuda/moe/grouped_sm90.cuh"

namespace batch_invariant::cuda {
template std::span<const GroupedKernel> Sm90GroupedKernels<__nv_bfloat16>();
}  // namespace batch_invariant::cuda
