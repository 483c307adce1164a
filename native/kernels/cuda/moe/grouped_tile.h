// Grouped kernels for any device, any zero points and any alignment, behind one function a type and
// shape.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_TILE_H_
#define BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_TILE_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/moe/grouped_kernels.h"

namespace batch_invariant::cuda {

template <typename T>
struct GroupedTileKernels {
  // Small: 16 x 64 (fp32: 16 x 32), large: 64 x 64.
  static Status GemmSmall(const GroupedArgs& args, const DeviceInfo& device, Stream stream);
  static Status GemmLarge(const GroupedArgs& args, const DeviceInfo& device, Stream stream);
  static Status NBitsSmall(const GroupedArgs& args, const DeviceInfo& device, Stream stream);
  static Status NBitsLarge(const GroupedArgs& args, const DeviceInfo& device, Stream stream);
};

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_MOE_GROUPED_TILE_H_
