// Programmatic dependent launch: a kernel that starts while the one ahead of it in the stream still
// runs, so that neither the launch nor the first loads of weights are waited for.
//
// Device side, for every kernel that LaunchOverlapped launches:
//   LaunchDependents     lets the next kernel of the stream start. Blocks of this one that are not
//                        running yet hold it back.
//   WaitForDependencies  returns when everything ahead in the stream has finished and is visible.
//                        Every block calls it; before it, it writes nothing and reads only what was
//                        there before the kernels ahead were launched: constant weights.
// A kernel that calls LaunchDependents only after it has waited also lets the next one read, before
// it waits, whatever was written ahead of both. Launched in the ordinary way, and before sm_90,
// neither does anything.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_COMMON_OVERLAP_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_COMMON_OVERLAP_CUH_

#include <cuda_runtime.h>

#include <utility>

#include "batch_invariant/cuda/common.h"
#include "kernels/cuda/common/launch.h"

namespace batch_invariant::cuda {

__device__ __forceinline__ void LaunchDependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}
__device__ __forceinline__ void WaitForDependencies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}

inline cudaLaunchAttribute OverlapAttribute() {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  return attribute;
}

inline bool CanOverlap(const DeviceInfo& device) { return device.compute_capability >= 90; }

// `overlap` false: an ordinary launch.
template <typename... Parameters, typename... Arguments>
Status LaunchOverlapped(void (*kernel)(Parameters...), dim3 grid, dim3 block, int shared_bytes,
                        bool overlap, Stream stream, const char* name, Arguments&&... arguments) {
  cudaLaunchAttribute attribute = OverlapAttribute();
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlap ? 1 : 0;
  return ToStatus(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name);
}

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_COMMON_OVERLAP_CUH_
