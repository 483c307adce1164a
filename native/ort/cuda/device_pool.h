// Device memory that is kept for reuse: cudaMalloc and cudaFree wait for the device, so that a run
// must not call them.
#ifndef BATCH_INVARIANT_ORT_CUDA_DEVICE_POOL_H_
#define BATCH_INVARIANT_ORT_CUDA_DEVICE_POOL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace batch_invariant::ort {

enum class MemoryKind { kDevice, kPinnedHost };

// Blocks come in size classes, eight to a doubling, and go back to their class when freed. A freed
// block is handed out again at once: its users must be ordered by one stream, which is why every
// session has a pool of its own. Thread-safe.
class DevicePool {
 public:
  DevicePool(int ordinal, MemoryKind kind) : ordinal_(ordinal), kind_(kind) {}
  ~DevicePool();
  DevicePool(const DevicePool&) = delete;
  DevicePool& operator=(const DevicePool&) = delete;

  // Null when the device has no memory left even after everything unused was given back.
  void* Allocate(size_t bytes);
  void Free(void* memory);

  struct Statistics {
    size_t in_use = 0;
    size_t most_in_use = 0;
    size_t held = 0;  // from the driver
    int64_t allocations = 0;
    int64_t driver_allocations = 0;
  };
  Statistics statistics() const;

  // While graphs are captured their blocks stay where they are.
  void set_may_trim(bool may_trim) { may_trim_ = may_trim; }

 private:
  void* AllocateFromDriver(size_t bytes);
  void FreeToDriver(void* memory);
  // Gives every unused block back to the driver, which waits for the device. Under mutex_.
  void Trim();

  const int ordinal_;
  const MemoryKind kind_;
  mutable std::mutex mutex_;
  bool may_trim_ = true;
  std::map<size_t, std::vector<void*>> unused_;  // by size class
  std::unordered_map<void*, size_t> size_of_;    // of every block, used or not
  Statistics statistics_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_CUDA_DEVICE_POOL_H_
