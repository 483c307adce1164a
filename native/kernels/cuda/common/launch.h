// Host side of a launch: turn CUDA errors into Status, and the few device facts that size a grid.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_COMMON_LAUNCH_H_
#define BATCH_INVARIANT_KERNELS_CUDA_COMMON_LAUNCH_H_

#include <cuda_runtime_api.h>

#include <cstdint>

#include "batch_invariant/status.h"

namespace batch_invariant::cuda {

struct DeviceInfo {
  int ordinal = 0;
  int compute_capability = 0;  // 80, 86, 89, 90, ...
  int multiprocessors = 0;
  int max_shared_memory_per_block = 0;  // bytes, opt-in limit
};

// Facts of the current device, read from the driver once per device.
Status CurrentDevice(DeviceInfo* info);

// `what` names the call or kernel in the message.
Status ToStatus(cudaError_t error, const char* what);

// Status of the launch that was just issued on this thread.
inline Status LaunchStatus(const char* kernel) { return ToStatus(cudaGetLastError(), kernel); }

// Allows `kernel` to use `bytes` of dynamic shared memory; needed above 48 KiB.
template <typename Kernel>
Status AllowSharedMemory(Kernel* kernel, int bytes, const char* name) {
  if (bytes <= 48 * 1024) return Status::Ok();
  return ToStatus(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                  name);
}

constexpr std::int64_t CeilDiv(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_COMMON_LAUNCH_H_
