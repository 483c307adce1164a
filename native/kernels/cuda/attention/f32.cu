#include "kernels/cuda/attention/f32_kernel.cuh"
#include "kernels/cuda/attention/kernels.h"

namespace batch_invariant::cuda {

Status LaunchF32(const CoreArgs& args, Stream stream) {
  const dim3 grid(static_cast<unsigned>(CeilDiv(args.tokens * args.group, kF32Rows)),
                  static_cast<unsigned>(args.kv_heads), static_cast<unsigned>(args.batch));
  F32Kernel<<<grid, kF32Threads, 0, stream>>>(args);
  return LaunchStatus("attention (fp32)");
}

}  // namespace batch_invariant::cuda
