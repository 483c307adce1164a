// CUDA runtime errors as Status.
#ifndef BATCH_INVARIANT_ORT_CUDA_CUDA_ERROR_H_
#define BATCH_INVARIANT_ORT_CUDA_CUDA_ERROR_H_

#include <cuda_runtime_api.h>

#include <string>

#include "batch_invariant/status.h"

namespace batch_invariant::ort {

// `what` says what was attempted: "copying to the device".
inline Status CudaStatus(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return Status::Ok();
  (void)cudaGetLastError();  // an error that was reported must not surface again at the next launch
  const std::string message = std::string(what) + " failed: " + cudaGetErrorString(error);
  return error == cudaErrorMemoryAllocation ? Status::OutOfMemory(message)
                                            : Status::DeviceError(message);
}

// Makes a device current for a scope.
class ScopedDevice {
 public:
  explicit ScopedDevice(int ordinal) {
    if (cudaGetDevice(&previous_) != cudaSuccess) previous_ = ordinal;
    if (previous_ != ordinal) (void)cudaSetDevice(ordinal);
    ordinal_ = ordinal;
  }
  ~ScopedDevice() {
    if (previous_ != ordinal_) (void)cudaSetDevice(previous_);
  }
  ScopedDevice(const ScopedDevice&) = delete;
  ScopedDevice& operator=(const ScopedDevice&) = delete;

 private:
  int previous_ = 0;
  int ordinal_ = 0;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_CUDA_CUDA_ERROR_H_
