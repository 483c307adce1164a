// The sm_90 kernels of one element type as rows of the kernel table.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_TABLE_H_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_TABLE_H_

#include <span>

#include "kernels/cuda/gemm/gemm_kernels.h"

namespace batch_invariant::cuda {

template <typename T>
std::span<const GemmKernel> Sm90FewRows();

template <typename T>
std::span<const GemmKernel> Sm90ManyRows();

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_SM90_TABLE_H_
