// The fp32 kernels, behind one function a shape.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_F32_H_
#define BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_F32_H_

#include "batch_invariant/cuda/gemm.h"

namespace batch_invariant::cuda {

Status GemmF32Small(const GemmArgs& args, Stream stream);  // 16 x 32 outputs a block
Status GemmF32Large(const GemmArgs& args, Stream stream);  // 64 x 64 outputs a block

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_GEMM_GEMM_F32_H_
