// Host side of walk_kernel.cuh; included by one instantiation file per type and head size.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_LAUNCH_WALK_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_LAUNCH_WALK_CUH_

#include <string>

#include "kernels/cuda/attention/kernels.h"
#include "kernels/cuda/attention/walk_kernel.cuh"
#include "kernels/cuda/attention/walk_sm90_kernel.cuh"

namespace batch_invariant::cuda {

template <typename T, int kHead, int kStages>
Status LaunchWalkStages(const CoreArgs& args, Stream stream) {
  const auto kernel = WalkKernel<T, kHead, kStages>;
  constexpr int kBytes = WalkSharedBytes<kHead, kStages>();
  BATCH_INVARIANT_RETURN_IF_ERROR(AllowSharedMemory(kernel, kBytes, "attention (walk)"));
  const dim3 grid(static_cast<unsigned>(CeilDiv(args.tokens * args.group, kWalkRows)),
                  static_cast<unsigned>(args.kv_heads), static_cast<unsigned>(args.batch));
  kernel<<<grid, kWalkThreads, kBytes, stream>>>(args);
  return LaunchStatus("attention (walk)");
}

template <typename T, int kHead>
Status LaunchWalkSm90(const CoreArgs& args, Stream stream) {
  const auto kernel = WalkSm90Kernel<T, kHead>;
  constexpr int kBytes = WalkSm90SharedBytes<kHead>();
  BATCH_INVARIANT_RETURN_IF_ERROR(AllowSharedMemory(kernel, kBytes, "attention (walk, sm_90)"));
  const dim3 grid(static_cast<unsigned>(CeilDiv(args.tokens * args.group, kWalkRows)),
                  static_cast<unsigned>(args.kv_heads), static_cast<unsigned>(args.batch));
  kernel<<<grid, kSm90Threads, kBytes, stream>>>(args);
  return LaunchStatus("attention (walk, sm_90)");
}

template <typename T, int kHead>
Status LaunchWalk(const CoreArgs& args, const DeviceInfo& device, Stream stream) {
  if constexpr (kHead <= 128) {
    if (device.compute_capability == 90) return LaunchWalkSm90<T, kHead>(args, stream);
    if (device.max_shared_memory_per_block >= WalkSharedBytes<kHead, 2>()) {
      return LaunchWalkStages<T, kHead, 2>(args, stream);
    }
  }
  if (device.max_shared_memory_per_block >= WalkSharedBytes<kHead, 1>()) {
    return LaunchWalkStages<T, kHead, 1>(args, stream);
  }
  return Status::Unsupported("attention: head size " + std::to_string(args.head_size) +
                             " needs more shared memory than this device has");
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_LAUNCH_WALK_CUH_
