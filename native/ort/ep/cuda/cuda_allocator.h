// DevicePool as an OrtAllocator.
#ifndef BATCH_INVARIANT_ORT_EP_CUDA_CUDA_ALLOCATOR_H_
#define BATCH_INVARIANT_ORT_EP_CUDA_CUDA_ALLOCATOR_H_

#include <memory>

#include "ort/cuda/device_pool.h"
#include "ort/ort_api.h"

namespace batch_invariant::ort {

class CudaAllocator : public OrtAllocator {
 public:
  // `info` must outlive the allocator. The pool may be shared with a session.
  CudaAllocator(const OrtMemoryInfo* info, std::shared_ptr<DevicePool> pool);

 private:
  const OrtMemoryInfo* info_;
  std::shared_ptr<DevicePool> pool_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_EP_CUDA_CUDA_ALLOCATOR_H_
