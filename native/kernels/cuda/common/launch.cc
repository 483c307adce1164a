#include "kernels/cuda/common/launch.h"

#include <array>
#include <mutex>
#include <string>

namespace batch_invariant::cuda {

Status ToStatus(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return Status::Ok();
  std::string message = std::string(what) + ": " + cudaGetErrorString(error);
  if (error == cudaErrorMemoryAllocation) return Status::OutOfMemory(std::move(message));
  return Status::DeviceError(std::move(message));
}

Status CurrentDevice(DeviceInfo* info) {
  constexpr int kMaxDevices = 64;
  static std::array<DeviceInfo, kMaxDevices> cache;
  static std::mutex mutex;

  int ordinal = 0;
  BATCH_INVARIANT_RETURN_IF_ERROR(ToStatus(cudaGetDevice(&ordinal), "cudaGetDevice"));
  if (ordinal >= kMaxDevices) {
    return Status::Unsupported("CUDA device " + std::to_string(ordinal) +
                               ": device numbers from 64 on are not served");
  }
  std::lock_guard<std::mutex> lock(mutex);
  DeviceInfo& entry = cache[ordinal];
  if (entry.multiprocessors == 0) {
    int major = 0, minor = 0, shared = 0, multiprocessors = 0;
    const auto read = [ordinal](int* value, cudaDeviceAttr attribute) {
      return ToStatus(cudaDeviceGetAttribute(value, attribute, ordinal), "cudaDeviceGetAttribute");
    };
    BATCH_INVARIANT_RETURN_IF_ERROR(read(&major, cudaDevAttrComputeCapabilityMajor));
    BATCH_INVARIANT_RETURN_IF_ERROR(read(&minor, cudaDevAttrComputeCapabilityMinor));
    BATCH_INVARIANT_RETURN_IF_ERROR(read(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin));
    BATCH_INVARIANT_RETURN_IF_ERROR(read(&multiprocessors, cudaDevAttrMultiProcessorCount));
    entry = {ordinal, 10 * major + minor, multiprocessors, shared};
  }
  *info = entry;
  return Status::Ok();
}

}  // namespace batch_invariant::cuda
