#include "ort/cuda/stream_workspaces.h"

#include <algorithm>
#include <string>

namespace batch_invariant::ort {
namespace {

constexpr size_t kSmallestWorkspace = size_t{8} << 20;

}  // namespace

Status StreamWorkspaces::Get(void* stream, size_t bytes, void** memory) {
  *memory = nullptr;
  if (bytes == 0) return Status::Ok();
  const std::lock_guard lock(mutex_);
  Workspace& workspace = workspaces_[stream];
  if (workspace.bytes < bytes) {
    const size_t grown = std::max({bytes, 2 * workspace.bytes, kSmallestWorkspace});
    void* larger = pool_->Allocate(grown);
    if (larger == nullptr) {
      return Status::OutOfMemory("the device has no " + std::to_string(grown >> 20) +
                                 " MiB left for a kernel's workspace");
    }
    if (workspace.memory != nullptr) workspace.outgrown.push_back(workspace.memory);
    workspace.memory = larger;
    workspace.bytes = grown;
  }
  *memory = workspace.memory;
  return Status::Ok();
}

}  // namespace batch_invariant::ort
