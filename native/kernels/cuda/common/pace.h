// Host side of pace.cuh: the rate.
#ifndef BATCH_INVARIANT_KERNELS_CUDA_COMMON_PACE_H_
#define BATCH_INVARIANT_KERNELS_CUDA_COMMON_PACE_H_

namespace batch_invariant::cuda {

// Cycles that a block gives a stage with `bytes` of early weights.
int PaceCycles(int bytes);

}  // namespace batch_invariant::cuda

#endif  // BATCH_INVARIANT_KERNELS_CUDA_COMMON_PACE_H_
