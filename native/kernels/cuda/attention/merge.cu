#include <algorithm>

#include "kernels/cuda/attention/kernels.h"
#include "kernels/cuda/attention/merge_kernel.cuh"

namespace batch_invariant::cuda {

template <typename T>
Status LaunchMerge(const CoreArgs& args, const DeviceInfo& device, Stream stream) {
  const int rows_of_head = args.tokens * args.group;
  const std::int64_t tiles =
      std::int64_t{args.batch} * args.kv_heads * CeilDiv(rows_of_head, kSplitRows);
  const std::int64_t slices = CeilDiv(args.head_size, kMergeColumns);
  // One row a thread block while about two rounds of them fill the device; of large batches most
  // tiles need no merge.
  const std::int64_t rows = std::min<std::int64_t>(rows_of_head, kSplitRows);
  const std::int64_t room = std::int64_t{device.multiprocessors} * 24 / (tiles * slices);
  const dim3 grid(static_cast<unsigned>(tiles),
                  static_cast<unsigned>(std::clamp<std::int64_t>(room, 1, rows)),
                  static_cast<unsigned>(slices));
  return LaunchOverlapped(MergeKernel<T>, grid, kMergeThreads, 0, CanOverlap(device), stream,
                          "attention (merge)", args);
}

template Status LaunchMerge<__half>(const CoreArgs&, const DeviceInfo&, Stream);
template Status LaunchMerge<__nv_bfloat16>(const CoreArgs&, const DeviceInfo&, Stream);

}  // namespace batch_invariant::cuda
