#include "kernels/cuda/matmul_nbits/nbits_sm90_table.cuh"

namespace batch_invariant::cuda {
template std::span<const NBitsKernel> Sm90NBitsRunKernels<__half>();
}  // namespace batch_invariant::cuda
