#include "kernels/cuda/attention/kernels.h"
#include "kernels/cuda/attention/merge_kernel.cuh"

namespace batch_invariant::cuda {

template <typename T>
Status LaunchMerge(const CoreArgs& args, Stream stream) {
  const int bytes = MergeSharedBytes(args.head_size);
  BATCH_INVARIANT_RETURN_IF_ERROR(AllowSharedMemory(MergeKernel<T>, bytes, "attention (merge)"));
  const unsigned rows =
      static_cast<unsigned>(args.batch) * args.kv_heads * args.tokens * args.group;
  MergeKernel<T><<<rows, kMergeThreads, bytes, stream>>>(args);
  return LaunchStatus("attention (merge)");
}

template Status LaunchMerge<__half>(const CoreArgs&, Stream);
template Status LaunchMerge<__nv_bfloat16>(const CoreArgs&, Stream);

}  // namespace batch_invariant::cuda
