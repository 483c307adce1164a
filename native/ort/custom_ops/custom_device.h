// What custom ops need of a device with memory of its own, where a provider of ONNX Runtime runs
// the session and has the streams.
#ifndef BATCH_INVARIANT_ORT_CUSTOM_OPS_CUSTOM_DEVICE_H_
#define BATCH_INVARIANT_ORT_CUSTOM_OPS_CUSTOM_DEVICE_H_

#include <functional>
#include <memory>

#include "ort/ops/op.h"

namespace batch_invariant::ort {

// The provider whose sessions run the custom ops of CudaOps().
inline constexpr const char* kCudaProvider = "CUDAExecutionProvider";

class CustomDevice {
 public:
  virtual ~CustomDevice() = default;

  virtual DeviceServices* services() = 0;

  // Runs `enqueue`, which enqueues on `stream`, with the device current and while no other thread
  // enqueues custom ops on that stream: they share its workspace.
  virtual Status Enqueue(void* stream, const std::function<Status()>& enqueue) = 0;
};

// The GPU of a kernel that the CUDA provider is creating. Its kernels share it, whatever their
// sessions; it goes with the last of them. kUnsupported: the GPU is too old, or its instruction
// paths differ.
Status OpenCudaDevice(const OrtKernelInfo* info, std::shared_ptr<CustomDevice>* device);

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_CUSTOM_OPS_CUSTOM_DEVICE_H_
