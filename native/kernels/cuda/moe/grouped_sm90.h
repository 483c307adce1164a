// Grouped kernels for compute capability 9.0, one function an element type.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_SM90_H_
#define BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_SM90_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <span>

#include "kernels/cuda/moe/grouped_kernels.h"

namespace batch_invariant::cuda {

template <typename T>
std::span<const GroupedKernel> Sm90GroupedKernels();

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_SM90_H_
