// Scratch memory for kernels: one piece for each stream, which grows and stays.
#ifndef BATCH_INVARIANT_ORT_CUDA_STREAM_WORKSPACES_H_
#define BATCH_INVARIANT_ORT_CUDA_STREAM_WORKSPACES_H_

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "batch_invariant/status.h"
#include "ort/cuda/device_pool.h"

namespace batch_invariant::ort {

class StreamWorkspaces {
 public:
  explicit StreamWorkspaces(std::shared_ptr<DevicePool> pool) : pool_(std::move(pool)) {}

  // See DeviceServices::Workspace. Thread-safe, but two threads that enqueue on one stream would
  // share its memory: they take turns.
  Status Get(void* stream, size_t bytes, void** memory);

 private:
  struct Workspace {
    void* memory = nullptr;
    size_t bytes = 0;
    std::vector<void*> outgrown;  // may still be in use on the stream
  };

  std::shared_ptr<DevicePool> pool_;
  std::mutex mutex_;
  std::map<void*, Workspace> workspaces_;
};

}  // namespace batch_invariant::ort

#endif  // BATCH_INVARIANT_ORT_CUDA_STREAM_WORKSPACES_H_
