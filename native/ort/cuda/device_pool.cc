#include "ort/cuda/device_pool.h"

#include <algorithm>
#include <bit>

#include "ort/cuda/cuda_error.h"

namespace batch_invariant::ort {
namespace {

constexpr size_t kSmallest = 512;
constexpr size_t kExactFrom = size_t{64} << 20;  // large blocks are weights and caches
constexpr size_t kExactUnit = size_t{2} << 20;

size_t SizeClass(size_t bytes) {
  if (bytes <= kSmallest) return kSmallest;
  if (bytes >= kExactFrom) return (bytes + kExactUnit - 1) / kExactUnit * kExactUnit;
  const size_t step = std::bit_floor(bytes - 1) / 8;
  return (bytes + step - 1) / step * step;
}

}  // namespace

DevicePool::~DevicePool() {
  const ScopedDevice current(ordinal_);
  for (const auto& [memory, bytes] : size_of_) FreeToDriver(memory);
}

void* DevicePool::Allocate(size_t bytes) {
  if (bytes == 0) return nullptr;
  const size_t size = SizeClass(bytes);
  const std::lock_guard lock(mutex_);
  void* memory = nullptr;
  if (const auto found = unused_.find(size); found != unused_.end() && !found->second.empty()) {
    memory = found->second.back();
    found->second.pop_back();
  } else {
    const ScopedDevice current(ordinal_);
    memory = AllocateFromDriver(size);
    if (memory == nullptr && may_trim_) {
      Trim();
      memory = AllocateFromDriver(size);
    }
    if (memory == nullptr) return nullptr;
    size_of_[memory] = size;
    statistics_.held += size;
    ++statistics_.driver_allocations;
  }
  ++statistics_.allocations;
  statistics_.in_use += size;
  statistics_.most_in_use = std::max(statistics_.most_in_use, statistics_.in_use);
  return memory;
}

void DevicePool::Free(void* memory) {
  if (memory == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto found = size_of_.find(memory);
  if (found == size_of_.end()) return;
  statistics_.in_use -= found->second;
  unused_[found->second].push_back(memory);
}

DevicePool::Statistics DevicePool::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void* DevicePool::AllocateFromDriver(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = kind_ == MemoryKind::kDevice
                                ? cudaMalloc(&memory, bytes)
                                : cudaHostAlloc(&memory, bytes, cudaHostAllocDefault);
  if (error == cudaSuccess) return memory;
  (void)cudaGetLastError();
  return nullptr;
}

void DevicePool::FreeToDriver(void* memory) {
  (void)(kind_ == MemoryKind::kDevice ? cudaFree(memory) : cudaFreeHost(memory));
}

void DevicePool::Trim() {
  for (auto& [size, blocks] : unused_) {
    for (void* memory : blocks) {
      FreeToDriver(memory);
      size_of_.erase(memory);
      statistics_.held -= size;
    }
    blocks.clear();
  }
}

}  // namespace batch_invariant::ort
