// Host side of split_kernel.cuh; included by one instantiation file per type and head size.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_LAUNCH_SPLIT_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_LAUNCH_SPLIT_CUH_

#include <algorithm>
#include <string>

#include "kernels/cuda/attention/kernels.h"
#include "kernels/cuda/attention/split_kernel.cuh"

namespace batch_invariant::cuda {

template <typename T, int kHead, int kSlots>
Status LaunchSplitSlots(const CoreArgs& args, const DeviceInfo& device, Stream stream) {
  const auto kernel = SplitKernel<T, kHead, kSlots>;
  constexpr int kBytes = SplitSharedBytes<kHead, kSlots>();
  BATCH_INVARIANT_RETURN_IF_ERROR(AllowSharedMemory(kernel, kBytes, "attention (split)"));
  // As many thread blocks as fit at once: by shared memory (1 KiB of it is the system's), and at
  // most 4 so that each has a few items.
  const int fit = std::clamp((device.max_shared_memory_per_block + 1024) / (kBytes + 1024), 1, 4);
  const std::int64_t items = static_cast<std::int64_t>(args.batch) * args.kv_heads *
                             CeilDiv(args.tokens * args.group, kSplitRows) * args.max_blocks;
  const std::int64_t grid = std::min<std::int64_t>(items, fit * device.multiprocessors);
  return LaunchOverlapped(kernel, dim3(static_cast<unsigned>(grid)), kSplitThreads, kBytes,
                          args.follows_prepare && CanOverlap(device), stream, "attention (split)",
                          args);
}

template <typename T, int kHead>
Status LaunchSplit(const CoreArgs& args, const DeviceInfo& device, Stream stream) {
  if (device.max_shared_memory_per_block >= SplitSharedBytes<kHead, 3>()) {
    return LaunchSplitSlots<T, kHead, 3>(args, device, stream);
  }
  if (device.max_shared_memory_per_block >= SplitSharedBytes<kHead, 2>()) {
    return LaunchSplitSlots<T, kHead, 2>(args, device, stream);
  }
  return Status::Unsupported("attention: head size " + std::to_string(args.head_size) +
                             " needs more shared memory than this device has");
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_LAUNCH_SPLIT_CUH_
