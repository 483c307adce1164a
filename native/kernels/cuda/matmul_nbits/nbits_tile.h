// Kernels for any device, any zero points and any alignment, behind one function a type and shape.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_TILE_H_
#define BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_TILE_H_

#include "batch_invariant/cuda/matmul_nbits.h"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {

template <typename T>
struct NBitsTile {
  static Status Small(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                      const DeviceInfo& device, Stream stream);  // 16 x 64 (fp32: 16 x 32)
  static Status Large(const MatMulNBitsPlan& plan, const MatMulNBitsArgs& args,
                      const DeviceInfo& device, Stream stream);  // 64 x 64
};

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MATMUL_NBITS_NBITS_TILE_H_
