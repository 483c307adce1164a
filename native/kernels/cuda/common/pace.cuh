// How fast a product asks for weights while the kernels ahead still run.
//
// No faster than memory delivers them to all multiprocessors together: requests beyond that queue
// up, in L2 and on the way to it, and what the kernels ahead still have to load waits behind them.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_COMMON_PACE_CUH_
#define BATCH_INVARIANT_KERNELS_CUDA_COMMON_PACE_CUH_

#include <cstdint>

#include "kernels/cuda/common/hopper.cuh"

namespace batch_invariant::cuda {

class Pace {
 public:
  // `cycles` of the multiprocessor a stage. `over`: a barrier whose first phase completes once
  // nothing is waited for any more.
  __device__ __forceinline__ Pace(int cycles, std::uint32_t over) : cycles_(cycles), over_(over) {
    begin_ = Now();
  }
  // Returns when it is stage `step`'s turn.
  __device__ __forceinline__ void Wait(int step) const {
    const auto due = static_cast<std::uint32_t>(cycles_ * step);
    while (Now() - begin_ < due && !BarrierPassed(over_, 0)) {
    }
  }

 private:
  static __device__ __forceinline__ std::uint32_t Now() {
    std::uint32_t now;
    asm volatile("mov.u32 %0, %%clock;\n" : "=r"(now));
    return now;
  }

  std::uint32_t begin_;
  const int cycles_;
  const std::uint32_t over_;
};

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_COMMON_PACE_CUH_
