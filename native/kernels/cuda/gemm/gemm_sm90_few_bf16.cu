#include "kernels/cuda/gemm/gemm_sm90_table.cuh"

namespace batch_invariant::cuda {
template std::span<const GemmKernel> Sm90FewRows<__nv_bfloat16>();
}  // namespace batch_invariant::cuda
