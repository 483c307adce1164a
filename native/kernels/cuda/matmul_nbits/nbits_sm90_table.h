// The sm_90 kernels of one element type as rows of the kernel table.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_H_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_H_

#include <span>

#include "kernels/cuda/matmul_nbits/nbits_kernels.h"

namespace batch_invariant::cuda {

template <typename T>
std::span<const NBitsKernel> Sm90NBitsKernels();

// For K in several runs and few rows.
template <typename T>
std::span<const NBitsKernel> Sm90NBitsRunKernels();

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_SM90_TABLE_H_
