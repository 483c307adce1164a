// Host side of decode_kernel.cuh; included by one instantiation file per type and head size.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_LAUNCH_DECODE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_LAUNCH_DECODE_CUH_

#include "kernels/cuda/attention/decode_kernel.cuh"
#include "kernels/cuda/attention/kernels.h"

namespace batch_invariant::cuda {

template <typename T, int kHead>
Status LaunchDecode(const CoreArgs& args, const PrepareArgs& prepare, int shift, Stream stream) {
  const auto kernel = args.general ? DecodeKernel<T, kHead, true> : DecodeKernel<T, kHead, false>;
  constexpr int kBytes = DecodeShape<kHead>::kBytes;
  BATCH_INVARIANT_RETURN_IF_ERROR(AllowSharedMemory(kernel, kBytes, "attention (decode)"));
  const std::int64_t tiles =
      static_cast<std::int64_t>(args.batch) * args.kv_heads * CeilDiv(args.group, kSplitRows);
  cudaLaunchAttribute attributes[2] = {OverlapAttribute()};
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = 1u << shift;
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(tiles << shift));
  config.blockDim = dim3(kDecodeThreads);
  config.dynamicSmemBytes = kBytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  return ToStatus(cudaLaunchKernelEx(&config, kernel, args, prepare, shift), "attention (decode)");
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_LAUNCH_DECODE_CUH_
