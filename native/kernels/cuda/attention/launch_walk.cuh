// Host side of walk_kernel.cuh; included by one instantiation file per type and head size.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_LAUNCH_WALK_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_LAUNCH_WALK_CUH_

#include <algorithm>
#include <cstdint>
#include <limits>
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

template <typename T, int kHead, bool kGeneral>
Status LaunchWalkSm90(const CoreArgs& args, Stream stream) {
  const auto kernel = WalkSm90Kernel<T, kHead, kGeneral>;
  constexpr int kBytes = WalkSm90Shape<kHead>::kSharedBytes;
  BATCH_INVARIANT_RETURN_IF_ERROR(AllowSharedMemory(kernel, kBytes, "attention (walk, sm_90)"));
  // Keys and values that a section of heads may take of the L2 cache.
  constexpr std::int64_t kSectionBytes = 20 << 20;
  const std::int64_t head_bytes =
      std::int64_t{args.key_capacity} * args.head_size * 2 * static_cast<int>(sizeof(T));
  WalkOrder order;
  order.row_tiles = static_cast<int>(CeilDiv(std::int64_t{args.tokens} * args.group, kWalkRows));
  order.heads = args.batch * args.kv_heads;
  order.section = static_cast<int>(std::clamp<std::int64_t>(
      kSectionBytes / std::max<std::int64_t>(head_bytes, 1), 1, order.heads));
  const std::int64_t grid = std::int64_t{order.row_tiles} * order.heads;
  if (grid > std::numeric_limits<std::int32_t>::max()) {
    return Status::Unsupported("attention: more rows than one launch covers");
  }
  return LaunchOverlapped(kernel, dim3(static_cast<unsigned>(grid)), kSm90Threads, kBytes, true,
                          stream, "attention (walk, sm_90)", args, order);
}

template <typename T, int kHead>
Status LaunchWalk(const CoreArgs& args, const DeviceInfo& device, Stream stream) {
  if (device.compute_capability == 90) {
    return args.general ? LaunchWalkSm90<T, kHead, true>(args, stream)
                        : LaunchWalkSm90<T, kHead, false>(args, stream);
  }
  if constexpr (kHead <= 128) {
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
