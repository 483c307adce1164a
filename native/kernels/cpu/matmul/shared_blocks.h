// The packed left side of a product, shared by the items of one call.
#ifndef BATCH_INVARIANT_KERNELS_CPU_MATMUL_SHARED_BLOCKS_H_
#define BATCH_INVARIANT_KERNELS_CPU_MATMUL_SHARED_BLOCKS_H_

#include <atomic>
#include <cstdint>
#include <new>

namespace batch_invariant::cpu {

// Blocks of a that the first item to need one packs for those after it. Nobody waits: who finds a
// block in the making packs one for itself.
class SharedBlocks {
 public:
  enum State : uint8_t { kNone, kInTheMaking, kReady };

  static bool Fit(int64_t blocks, int64_t block_floats) {
    return blocks * block_floats <= kMostFloats;
  }
  // What `memory` must hold.
  static int64_t Floats(int64_t blocks, int64_t block_floats) {
    return blocks * block_floats + blocks;  // a state takes less than a float
  }

  SharedBlocks() = default;
  SharedBlocks(float* memory, int64_t blocks, int64_t block_floats)
      : block_floats_(block_floats),
        floats_(memory),
        states_(reinterpret_cast<std::atomic<State>*>(memory + blocks * block_floats)) {
    for (int64_t i = 0; i < blocks; ++i) new (&states_[i]) std::atomic<State>(kNone);
  }

  // The block, packed by pack(memory) if nobody did so before, or into `own`.
  template <typename Pack>
  const float* Get(int64_t index, float* own, Pack&& pack) const {
    if (states_ == nullptr) {
      pack(own);
      return own;
    }
    float* shared = floats_ + index * block_floats_;
    State state = states_[index].load(std::memory_order_acquire);
    if (state == kReady) return shared;
    if (state == kNone && states_[index].compare_exchange_strong(state, kInTheMaking)) {
      pack(shared);
      states_[index].store(kReady, std::memory_order_release);
      return shared;
    }
    if (state == kReady) return shared;
    pack(own);
    return own;
  }

 private:
  static constexpr int64_t kMostFloats = 1 << 20;
  static_assert(sizeof(std::atomic<State>) <= sizeof(float));

  int64_t block_floats_ = 0;
  float* floats_ = nullptr;
  std::atomic<State>* states_ = nullptr;
};

}  // namespace batch_invariant::cpu

#endif  // BATCH_INVARIANT_KERNELS_CPU_MATMUL_SHARED_BLOCKS_H_
