// Stands in for the GPU of custom ops in a build without CUDA, in which no custom op asks for one.
#include "ort/custom_ops/custom_device.h"

namespace batch_invariant::ort {

Status OpenCudaDevice(const OrtKernelInfo*, std::shared_ptr<CustomDevice>*) {
  return Status::Unsupported("this build of the library has no CUDA");
}

}  // namespace batch_invariant::ort
