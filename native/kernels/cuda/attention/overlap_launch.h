// Launches a kernel that may start before the one ahead of it in the stream has finished; it calls
// WaitForDependencies (contract.cuh) before it reads what that one wrote. `overlap` false: an
// ordinary launch, as it must be before sm_90.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_OVERLAP_LAUNCH_H_
#define BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_OVERLAP_LAUNCH_H_

#include <cuda_runtime.h>

#include "batch_invariant/status.h"
#include "kernels/cuda/attention/core_args.h"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {

inline Status LaunchOverlapped(void (*kernel)(CoreArgs), dim3 grid, int threads, int shared_bytes,
                               const CoreArgs& args, bool overlap, Stream stream,
                               const char* name) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlap ? 1 : 0;
  return ToStatus(cudaLaunchKernelEx(&config, kernel, args), name);
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_ATTENTION_OVERLAP_LAUNCH_H_
