#include "ort/ep/cuda/cuda_allocator.h"

#include <string>

namespace batch_invariant::ort {

CudaAllocator::CudaAllocator(const OrtMemoryInfo* info, std::shared_ptr<DevicePool> pool)
    : OrtAllocator{}, info_(info), pool_(std::move(pool)) {
  version = kOrtApiVersion;
  Alloc = [](OrtAllocator* self, size_t bytes) -> void* {
    try {
      return static_cast<CudaAllocator*>(self)->pool_->Allocate(bytes);
    } catch (...) {
      return nullptr;
    }
  };
  Reserve = Alloc;
  Free = [](OrtAllocator* self, void* memory) {
    try {
      static_cast<CudaAllocator*>(self)->pool_->Free(memory);
    } catch (...) {
    }
  };
  Info = [](const OrtAllocator* self) { return static_cast<const CudaAllocator*>(self)->info_; };
  GetStats = [](const OrtAllocator* self, OrtKeyValuePairs** out) noexcept -> OrtStatus* {
    return Guarded([&]() -> Status {
      const DevicePool::Statistics statistics =
          static_cast<const CudaAllocator*>(self)->pool_->statistics();
      Ort::KeyValuePairs pairs;
      pairs.Add("Limit", "-1");
      pairs.Add("InUse", std::to_string(statistics.in_use).c_str());
      pairs.Add("MaxInUse", std::to_string(statistics.most_in_use).c_str());
      pairs.Add("TotalAllocated", std::to_string(statistics.held).c_str());
      pairs.Add("NumAllocs", std::to_string(statistics.allocations).c_str());
      pairs.Add("NumArenaExtensions", std::to_string(statistics.driver_allocations).c_str());
      *out = pairs.release();
      return Status::Ok();
    });
  };
}

}  // namespace batch_invariant::ort
