// Scratch for a kernel that calls others many times: what one call took, the next takes again.
#ifndef BATCH_INVARIANT_KERNELS_CPU_DISPATCH_REUSED_SCRATCH_H_
#define BATCH_INVARIANT_KERNELS_CPU_DISPATCH_REUSED_SCRATCH_H_

#include <array>
#include <cstddef>

#include "batch_invariant/cpu/context.h"

namespace batch_invariant::cpu {

class ReusedScratch {
 public:
  explicit ReusedScratch(const Context& context) : parent_(context.scratch), context_(context) {
    context_.scratch = {&ReusedScratch::Allocate, this};
  }
  ReusedScratch(const ReusedScratch&) = delete;
  ReusedScratch& operator=(const ReusedScratch&) = delete;

  // The context for the next call; whatever the calls before it took is free again.
  const Context& Next() {
    for (Block& block : blocks_) block.taken = false;
    return context_;
  }

 private:
  struct Block {
    void* memory = nullptr;
    size_t bytes = 0;
    bool taken = false;
  };

  static void* Allocate(void* self, size_t bytes) {
    auto* scratch = static_cast<ReusedScratch*>(self);
    for (Block& block : scratch->blocks_) {
      if (block.taken || (block.memory != nullptr && block.bytes < bytes)) continue;
      if (block.memory == nullptr) {
        block.memory = scratch->parent_.allocate(scratch->parent_.self, bytes);
        block.bytes = bytes;
      }
      block.taken = block.memory != nullptr;
      return block.memory;
    }
    return scratch->parent_.allocate(scratch->parent_.self, bytes);
  }

  Scratch parent_;
  Context context_;
  std::array<Block, 8> blocks_;
};

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_DISPATCH_REUSED_SCRATCH_H_
