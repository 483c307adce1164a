#include "kernels/cuda/moe/grouped_sm90.cuh"

namespace batch_invariant::cuda {
template std::span<const GroupedKernel> Sm90GroupedKernels<__half>();
}  // namespace batch_invariant::cuda
